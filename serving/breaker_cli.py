"""`tingxin breaker`: what the breaker watches, and a named person who closes it."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from serving.command import fail, opened

breaker = typer.Typer(no_args_is_help=True, help="熔断器 / the breaker of automatic opt-outs")


@breaker.command("status")
def status() -> None:
    """查看熔断器 / Show what is watched. Exit status 1 if any is open."""
    from serving.guard import limits, watches

    table = Table("监测 watch", "状态 state", "近期 latest", "平时 usual", "已暂停 held")
    with opened() as store:
        kept = limits(store.settings)
        with store.read() as connection:
            found = watches(connection)
    for watch in found:
        state = "正常 closed"
        if watch.opened_at is not None:
            state = f"打开 open {watch.opened_at:%Y-%m-%d %H:%M}Z"
        elif kept.window == 0:
            state = "停用 off"
        elif watch.usual_seen < kept.history:
            state = f"积累中 learning {watch.usual_seen:.0f}/{kept.history}"
        latest = f"{watch.yes}/{len(watch.latest)} = {watch.share:.1%}"
        table.add_row(watch.name, state, latest, f"{watch.usual:.1%}", str(watch.held))
    Console().print(table)
    if any(watch.is_open for watch in found):
        raise typer.Exit(1)


@breaker.command("close")
def close(
    watch: Annotated[str, typer.Argument(help="监测项 / the watch, as `status` names it")],
    actor: Annotated[str, typer.Option(help="经办人 / who does it, by name")],
    reason: Annotated[str, typer.Option(help="理由 / why")],
    new_usual: Annotated[
        bool, typer.Option("--new-usual", help="以近期比例为平时 / the rate now is the usual one")
    ] = False,
) -> None:
    """关闭熔断器 / Close a watch. Unless the rate is the new usual one, remove its cause first."""
    from serving import guard

    with opened() as store:
        try:
            after = guard.close(store, watch, actor, reason, new_usual)
        except (guard.NotOpen, ValueError) as refused:
            fail(str(refused))
    typer.echo(f"已关闭 closed: {after.name}, 平时 usual {after.usual:.1%}")

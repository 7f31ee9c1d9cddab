"""The commands about pushes: targets, dead-letters, reconcile.

Imports of the service stand inside the commands: `tingxin --help` must not wait for a web framework.
"""

import json
from typing import Annotated

import typer

from serving.command import fail, opened

targets = typer.Typer(no_args_is_help=True, help="推送目标 / where changes are pushed to")
dead_letters = typer.Typer(no_args_is_help=True, help="未送达的推送 / pushes that were given up")

Of = Annotated[str | None, typer.Option("--target", help="unset: every target")]


@targets.command("list")
def list_targets() -> None:
    """列出 / List the targets: state, what waits, what was given up, the oldest in seconds."""
    from serving.store import now
    from serving.target_views import views

    with opened() as store, store.read() as connection:
        for view in views(connection, store.settings.all_targets, now()):
            why = view["reason"] or view["paused_until"] or ""
            fields = ("name", "kind", "state", "pending", "dead_letters", "oldest_unpushed_seconds")
            typer.echo("\t".join([*(str(view[f]) for f in fields), why]).rstrip())


@targets.command("enable")
def enable(name: str) -> None:
    """重新启用 / Send to a target again that was disabled or paused."""
    from serving import target_states

    with opened() as store, store.write() as connection:
        if not target_states.enable(connection, name):
            fail(f"no target is called {name!r}; see `tingxin targets list`")
    typer.echo(f"已启用 / enabled {name}")


@targets.command("disable")
def disable(
    name: str, reason: Annotated[str, typer.Option(help="理由 / why, with your name")]
) -> None:
    """停用 / Send a target nothing more; its events wait."""
    from serving import target_states
    from serving.store import now

    with opened() as store, store.write() as connection:
        if not target_states.disable(connection, name, reason, now()):
            fail(f"no target is called {name!r}; see `tingxin targets list`")
    typer.echo(f"已停用 / disabled {name}")


@dead_letters.command("list")
def list_dead_letters(target: Of = None) -> None:
    """列出 / List the events that were given up, with the last error."""
    from serving import dead_letters

    with opened() as store, store.read() as connection:
        for letter in dead_letters.listing(connection, target):
            fields = ("event", "target", "type", "time", "attempts", "last_error")
            typer.echo("\t".join(str(letter[name]) for name in fields))


@dead_letters.command("show")
def show(event: str) -> None:
    """查看 / Show one in full, the number masked, as JSON."""
    from serving import dead_letters

    with opened() as store, store.read() as connection:
        letters = dead_letters.one(connection, event)
    if not letters:
        fail("no dead letter of this id; see `tingxin dead-letters list`")
    for letter in letters:
        typer.echo(json.dumps(letter, ensure_ascii=False, indent=2))


@dead_letters.command("replay")
def replay(
    events: Annotated[list[str] | None, typer.Argument(help="unset: all")] = None,
    target: Of = None,
) -> None:
    """重新推送 / Send them again, unless their entry has changed since."""
    from serving import dead_letters
    from serving.store import now

    with opened() as store, store.write() as connection:
        sent, superseded = dead_letters.replay(connection, now(), events or (), target)
    typer.echo(
        f"重新推送 {sent},已被后来的变更取代 {superseded} / {sent} to be sent, {superseded} superseded"
    )


def reconcile(
    names: Annotated[list[str] | None, typer.Argument(help="unset: all that can be read")] = None,
    repair: Annotated[bool, typer.Option(help="补推缺失 / push what is missing there")] = False,
    ignore_extra: Annotated[
        bool, typer.Option(help="不因多出的报错 / what is extra does not change the exit status")
    ] = False,
) -> None:
    """核对 / Compare the list with what targets block. Exit status 1: they differ; 2: one cannot be read."""
    from serving.reconcile import is_readable
    from serving.reconcile import reconcile as compare
    from serving.targets import TargetFault

    differ = unread = False
    with opened() as store:
        by_name = {target.name: target for target in store.settings.all_targets}
        unknown = [name for name in names or () if name not in by_name]
        if unknown:
            fail(f"no target is called {', '.join(unknown)}; see `tingxin targets list`")
        chosen = (
            [by_name[n] for n in names] if names else list(filter(is_readable, by_name.values()))
        )
        if not chosen:
            fail("no target can be read; those of the kinds aws and baidu can")
        for target in chosen:
            try:
                report = compare(store, target, repair)
            except TargetFault as fault:
                typer.echo(f"{target.name}: {fault}", err=True)
                unread = True
                continue
            for difference in (*report.missing, *report.extra):
                typer.echo(
                    f"{target.name}\t{difference.what}\t{difference.phone_masked}\t{difference.why}"
                )
            typer.echo(
                f"{target.name}: 本地 {report.here},对方 {report.there},缺 {len(report.missing)},"
                f"多 {len(report.extra)},在途 {report.on_the_way},补推 {report.queued} / "
                f"{report.here} here, {report.there} there, {len(report.missing)} missing, "
                f"{len(report.extra)} extra, {report.on_the_way} on the way, {report.queued} queued"
            )
            differ |= len(report.missing) > report.queued
            differ |= bool(report.extra) and not ignore_extra
    if unread:
        raise typer.Exit(2)
    if differ:
        raise typer.Exit(1)


def mount(parent: typer.Typer) -> None:
    """Add these commands to a command line."""
    parent.add_typer(targets, name="targets")
    parent.add_typer(dead_letters, name="dead-letters")
    parent.command()(reconcile)

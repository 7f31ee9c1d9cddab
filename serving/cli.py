"""The service's commands: serve, demo, keys, suppress, receipts; those about pushes are push_commands.py's.

Imports of the service stand inside the commands: `tingxin --help` must not wait for a web framework.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from serving import push_commands, stream_cli, upkeep_cli
from serving.breaker_cli import breaker
from serving.command import fail as _fail
from serving.command import opened as _store
from serving.command import phone as _phone
from serving.list_cli import list_
from serving.receipts_cli import receipts

if TYPE_CHECKING:
    from serving.store import Store

SAMPLES = Path(__file__).parents[1] / "data" / "sample"  # of the checkout

keys = typer.Typer(no_args_is_help=True, help="API 密钥 / API keys")
suppress = typer.Typer(no_args_is_help=True, help="退订名单 / the opt-out list")

STOP_SECONDS = 20  # for requests under way; orchestrators kill after 30

ListName = Annotated[str, typer.Option("--list", help="名单 / list; unset: TINGXIN_BRAND_LIST")]
Actor = Annotated[str, typer.Option(help="经办人 / who does it, by name")]
Reason = Annotated[str, typer.Option(help="理由 / why")]


def serve(
    host: Annotated[str | None, typer.Option(help="unset: TINGXIN_HOST, 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="unset: TINGXIN_PORT, 8000; 0: any")] = None,
) -> None:
    """启动服务 / Run the service: HTTP API, opt-out list, push."""
    import uvicorn

    from model.bundle import BundleError
    from serving.api import create_app
    from serving.logs import log_to_stderr
    from serving.metrics import Metrics
    from serving.relay import Relay
    from serving.service import load_classifier
    from serving.settings import SettingsError
    from serving.targets import TargetFault
    from serving.traces import Traces

    log_to_stderr()
    with _store() as store:
        settings = store.settings
        try:
            # What cannot work is refused now, not in the dark.
            Relay(store, Metrics()).stop()
            Traces.open(settings).close()
        except (TargetFault, SettingsError) as fault:
            _fail(str(fault))
        _first_key(store)
    try:
        classifier = load_classifier(settings)
    except BundleError as error:
        _fail(str(error))
    config = uvicorn.Config(
        create_app(settings, classifier),
        host=host or settings.host,
        port=settings.port if port is None else port,
        access_log=False,  # its lines hold paths, and paths hold numbers and keys
        log_config=None,
        timeout_graceful_shutdown=STOP_SECONDS,
        proxy_headers=False,  # whom X-Forwarded-For may be believed from is a setting of ours
    )
    sock = config.bind_socket()
    address = f"http://{config.host}:{sock.getsockname()[1]}"
    typer.echo(f"听信服务 / Tingxin serves {address}")
    if not classifier.reads_free_text:
        typer.echo("模型未能加载,仅识别关键词 / The encoder did not load: keywords only", err=True)
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[sock])


def demo(
    samples: Annotated[Path, typer.Argument(help="样例目录 / folder of the samples")] = SAMPLES,
    bundle: Annotated[Path | None, typer.Option(help="unset: the bundle that ships")] = None,
) -> None:
    """看一遍全过程 / See it work: sample replies through the real service, pushed to a receiver."""
    from model.bundle import BundleError
    from serving.demo import SampleError, run

    try:
        run(samples, bundle)
    except (SampleError, BundleError) as error:
        _fail(str(error))


keys.command("rotate-phone")(upkeep_cli.rotate_phone)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="用途 / what it is for")],
    scope: Annotated[list[str], typer.Option(help="ingest, read, review, admin; may be repeated")],
    days: Annotated[
        float | None, typer.Option(help="有效天数 / days it opens; unset: until revoked", min=0)
    ] = None,
) -> None:
    """新建密钥,仅显示一次 / Make a key; it is shown once."""
    from serving import auth

    with _store() as store, store.write() as connection:
        try:
            typer.echo(auth.create(connection, name, scope, days))
        except auth.KeyFault as fault:
            _fail(str(fault))


@keys.command("list")
def list_keys() -> None:
    """列出密钥 / List the keys, without what opens the door."""
    from serving import auth
    from serving.store import now

    with _store() as store, store.read() as connection:
        table = Table(
            "id",
            "名称 name",
            "权限 scopes",
            "建于 created",
            "到期 expires",
            "最近使用 last used",
            "状态 state",
        )
        for key in auth.listing(connection):
            used, ends = key["last_used_at"], key["expires_at"]
            state = "已过期 expired" if ends and ends <= now() else "有效 in force"
            table.add_row(
                key["id"],
                key["name"],
                ", ".join(key["scopes"]),
                f"{key['created_at']:%Y-%m-%d %H:%M}",
                f"{ends:%Y-%m-%d %H:%M}" if ends else "–",
                f"{used:%Y-%m-%d %H:%M}" if used else "–",
                "已吊销 revoked" if key["revoked_at"] else state,
            )
    Console().print(table)


@keys.command("revoke")
def revoke_keys(key_ids: list[str]) -> None:
    """吊销密钥 / Revoke keys by id, for good."""
    from serving import auth

    with _store() as store, store.write() as connection:
        revoked = auth.revoke(connection, key_ids)
    typer.echo(f"已吊销 {revoked} 个 / revoked {revoked}")
    if revoked < len(set(key_ids)):
        _fail("some of these ids are unknown, or were revoked before; see `tingxin keys list`")


@suppress.command("check")
def check(
    phones: list[str],
    scope: Annotated[
        str, typer.Option(help="marketing, transactional, otp, sender:…")
    ] = "marketing",
    list_name: ListName = "",
) -> None:
    """能否发送 / May these numbers be sent to? Exit status 1 if any must not."""
    from serving.suppressions import covering

    with _store() as store:
        read = [_phone(phone) for phone in phones]
        name = list_name or store.settings.brand_list
        with store.read() as connection:
            try:
                found = covering(connection, name, map(store.phones.key, read), scope)
            except ValueError as fault:
                _fail(str(fault))
        for given, phone in zip(phones, read, strict=True):
            entry = found.get(store.phones.key(phone))
            verdict = f"停发 suppressed ({entry.scope}, {entry.state})" if entry else "可发 clear"
            typer.echo(f"{given}\t{verdict}")
    if found:
        raise typer.Exit(1)


@suppress.command("add")
def add(
    phone: str,
    actor: Actor,
    reason: Reason,
    scope: Annotated[str, typer.Option(help="marketing, all, sender:…")] = "marketing",
    list_name: ListName = "",
) -> None:
    """加入名单 / Put a number on the list."""
    from serving import exchange

    with _store() as store:
        name = list_name or store.settings.brand_list
        try:
            entry = exchange.add(store, name, _phone(phone), scope, actor, reason)
        except ValueError as fault:
            _fail(str(fault))
    typer.echo(f"{entry.phone_masked}\t{entry.scope}\t{entry.state}")


@suppress.command("release")
def release(
    phone: str,
    actor: Actor,
    reason: Reason,
    scope: Annotated[str | None, typer.Option(help="unset: every scope")] = None,
    list_name: ListName = "",
) -> None:
    """移出名单 / Take a number off the list."""
    from serving import exchange

    with _store() as store:
        name = list_name or store.settings.brand_list
        try:
            released = exchange.release(store, name, _phone(phone), scope, actor, reason)
        except ValueError as fault:
            _fail(str(fault))
    if not released:
        _fail("the number is not on this list")
    for entry in released:
        typer.echo(f"{entry.phone_masked}\t{entry.scope}\t{entry.state}")


@suppress.command("export")
def export(
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV; -: standard output")] = Path("-"),
    list_name: ListName = "",
) -> None:
    """导出名单 / Write the whole list as CSV."""
    from serving import exchange

    with _store() as store:
        lines = exchange.export(store, list_name or store.settings.brand_list)
        if str(out) == "-":
            sys.stdout.buffer.writelines(lines)
            sys.stdout.flush()
        else:
            with out.open("wb") as file:
                file.writelines(lines)


@suppress.command("import")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    actor: Actor,
    list_name: ListName = "",
    dry_run: Annotated[bool, typer.Option(help="只检查不写入 / check, write nothing")] = False,
) -> None:
    """导入名单 / Add the numbers of a CSV file (column phone or 手机号). Bad lines go to standard error."""
    from serving import importing

    def name_fault(fault: importing.Fault) -> None:
        typer.echo(f"{file}:{fault.line}: {fault.why} ({fault.phone_masked})", err=True)

    with _store() as store, file.open("rb") as content:
        name = list_name or store.settings.brand_list
        try:
            done = importing.import_(store, name, content, actor, dry_run, name_fault)
        except importing.UnreadableFile as unreadable:
            _fail(f"{file}: {unreadable}")
    if dry_run:
        typer.echo("试运行,未写入 / dry run, nothing was written")
    typer.echo(f"新增 {done.added},已有 {done.already} / added {done.added}, known {done.already}")
    if done.refused:
        _fail(f"{done.refused} lines could not be read")


def _first_key(store: "Store") -> None:
    """Make and print an admin key where there is none yet."""
    from serving import auth

    with store.write() as connection:
        if auth.any_exists(connection):
            return
        key = auth.create(connection, "first start", ["admin"])
    typer.echo("首次启动:这是管理员 API 密钥,仅显示这一次,请妥善保存。")
    typer.echo("First start: this is the admin API key. It is shown this once; keep it safe.")
    typer.echo(f"\n    {key}\n")


def mount(parent: typer.Typer) -> None:
    """Add the service's commands to a command line."""
    parent.command()(serve)
    parent.command()(demo)
    parent.command()(stream_cli.consume)
    parent.command()(upkeep_cli.purge)
    parent.command()(upkeep_cli.erase)
    parent.command()(upkeep_cli.backup)
    parent.command()(upkeep_cli.restore)
    parent.add_typer(breaker, name="breaker")
    parent.add_typer(list_, name="list")
    parent.add_typer(keys, name="keys")
    parent.add_typer(suppress, name="suppress")
    push_commands.mount(parent)
    parent.add_typer(receipts, name="receipts")


# `pretty_exceptions_enable` would print local variables, numbers among them.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
mount(app)

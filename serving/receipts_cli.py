"""`tingxin receipts`: verify the chain or a dossier, and make a dossier for an inquiry."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from serving.command import fail, opened
from serving.command import phone as read_phone

receipts = typer.Typer(no_args_is_help=True, help="决定凭据 / receipts of decisions")


@receipts.command("verify")
def verify(
    dossier: Annotated[
        Path | None,
        typer.Argument(help="导出的材料 / a dossier, checked offline", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """校验凭据链 / Verify that no receipt was changed or taken out. Exit status 1 if one was."""
    if dossier is not None:
        _check(dossier)
        return
    from serving.receipts import verify as walk

    with opened() as store, store.read() as connection:
        verdict = walk(connection)
    if not verdict.holds:
        typer.echo(f"凭据链断裂 / receipt {verdict.fault_at} {verdict.fault}", err=True)
        raise typer.Exit(1)
    typer.echo(f"凭据链完整,共 {verdict.checked} 条 / the chain holds, {verdict.checked} receipts")
    typer.echo(f"链尾 / its end: {verdict.number} {verdict.hash}")


@receipts.command("export")
def export(
    out: Annotated[Path, typer.Argument(help="新文件 / a new ZIP file")],
    actor: Annotated[str, typer.Option(help="经办人 / who asks for it, by name")],
    reason: Annotated[str, typer.Option(help="理由 / why, e.g. the inquiry's number")],
    phone: Annotated[str | None, typer.Option(help="号码 / all about this number")] = None,
    receipt: Annotated[str | None, typer.Option(help="凭据号 / all about this decision")] = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="显示号码和内容 / show number and texts")
    ] = False,
) -> None:
    """导出凭据材料 / Write a dossier: receipts, pushes, the chain's proof and one page to read."""
    from serving import dossier

    if out.exists():
        fail(f"{out} is there already")
    number = None if phone is None else read_phone(phone)
    inquiry = dossier.Inquiry(actor, reason, number, receipt, reveal)
    with opened() as store, tempfile.TemporaryFile() as file:
        try:
            count = dossier.write(store, inquiry, file)
            file.seek(0)
            # It may name a person: for its maker's eyes.
            with os.fdopen(os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as kept:
                kept.writelines(file)
        except (dossier.NothingFound, ValueError, OSError) as fault:
            fail(str(fault))
    typer.echo(f"{out}\t凭据 receipts {count}")


def _check(path: Path) -> None:
    from serving.dossier_check import DossierFault, check

    try:
        found = check(path)
    except DossierFault as fault:
        typer.echo(f"材料有误 / {fault}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"材料完整,凭据 {found.receipts} 份 / the dossier holds, {found.receipts} receipts")
    typer.echo(f"链尾 / the chain's end: {found.number} {found.hash}")
    if found.on_trust:
        typer.echo(f"早期链节仅给出哈希 / links given as hashes only: {found.on_trust}")

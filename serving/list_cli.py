"""`tingxin list`: the list as a file for machines that must ask without a network."""

from pathlib import Path
from typing import Annotated

import typer

from serving.command import fail, opened, phone

list_ = typer.Typer(no_args_is_help=True, help="离线名单 / the list as an offline filter file")

KeyFile = Annotated[Path, typer.Option("--key", help="密钥文件 / file of the key to check with")]


@list_.command("filter")
def filter_(
    out: Annotated[Path, typer.Argument(dir_okay=False, help="离线过滤文件 / the filter file")],
    key: Annotated[
        Path | None, typer.Option(help="同时写出核对密钥 / write the key to check with, too")
    ] = None,
    scope: Annotated[
        str, typer.Option(help="marketing, transactional, otp, sender:…")
    ] = "marketing",
    false_positives: Annotated[
        float, typer.Option(help="误判率上限 / at most this share of others", min=1e-9, max=0.1)
    ] = 0.0001,
    list_name: Annotated[str, typer.Option("--list", help="unset: TINGXIN_BRAND_LIST")] = "",
) -> None:
    """写出离线过滤文件 / Write the numbers not to be sent to as a filter file that holds none of them."""
    from serving import filterfile
    from serving.phones import write_privately

    with opened() as store:
        name = list_name or store.settings.brand_list
        try:
            header = filterfile.write(store, out, name, scope, false_positives)
        except (ValueError, OSError) as fault:
            fail(str(fault))
        if key is not None:
            if (
                key.exists()
                and key.read_text(encoding="ascii").strip() != store.phones.list_key.hex()
            ):
                fail(f"{key} is there already, and is not this key; nothing was written over it")
            write_privately(key, store.phones.list_key.hex())
    typer.echo(f"{header.count} 个号码 numbers, cursor {header.cursor}, key {header.key}")


@list_.command("check")
def check(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    phones: list[str],
    key: KeyFile,
) -> None:
    """按离线文件核对 / Ask a filter file about numbers. Exit status 1 if any must not be sent to."""
    from serving.filterfile import Filter, FilterError

    try:
        stopped = Filter.load(file, bytes.fromhex(key.read_text(encoding="ascii")))
    except FilterError as fault:
        fail(str(fault))
    except (ValueError, OSError):
        fail(f"{key} does not hold a key in hexadecimal digits")
    found = False
    for given in phones:
        is_in = phone(given) in stopped
        found |= is_in
        typer.echo(f"{given}\t{'停发 suppressed' if is_in else '可发 clear'}")
    if found:
        raise typer.Exit(1)

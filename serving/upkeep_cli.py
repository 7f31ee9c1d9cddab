"""What an operator does now and then: `tingxin purge`, `erase`, `backup`, `restore`, `keys rotate-phone`."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serving.command import fail, opened
from serving.command import phone as read_phone

DryRun = Annotated[bool, typer.Option("--dry-run", help="只报告不执行 / say, do nothing")]
Actor = Annotated[str, typer.Option(help="经办人 / who does it, by name")]

KEEP_THE_KEY = (
    "请另行妥善保存手机号密钥:没有它,备份无法使用。\n"
    "Keep the phone key in another place: without it no backup is of any use."
)


def purge(dry_run: DryRun = False) -> None:
    """清理过期数据 / Take out what has outlived its retention (TINGXIN_KEEP_…_DAYS)."""
    from serving import retention

    with opened() as store:
        done = asdict(retention.purge(store, dry_run))
    if dry_run:
        typer.echo("试运行,未删除 / dry run, nothing was deleted")
    names = {
        "texts": "回复内容 texts",
        "entries": "已恢复的名单条目 released entries",
        "events": "已送达的推送 delivered events",
        "replies": "回复记录 replies",
        "receipts": "凭据 receipts",
    }
    for name, count in done.items():
        typer.echo(f"{names[name]}\t{count}")


def erase(
    phone: str,
    actor: Actor,
    reason: Annotated[str, typer.Option(help="理由 / why, e.g. the request's number")],
    texts_too: Annotated[
        bool, typer.Option("--texts-too", help="无法定保存义务 / no law keeps the texts")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """删除一个人的数据 / Erase one person on request; say what stays and why."""
    from serving import retention

    with opened() as store:
        number = read_phone(phone)
        report = retention.erase(store, number, actor, reason, texts_too, dry_run)
    if dry_run:
        typer.echo("试运行,未删除 / dry run, nothing was deleted")
    for line in report:
        typer.echo(line.text())


def backup(out: Annotated[Path, typer.Argument(help="新文件 / a new file")]) -> None:
    """备份 SQLite 数据库 / Copy the SQLite database while the service runs."""
    from serving import backup as copies
    from serving.settings import SettingsError, read_settings

    try:
        fingerprint = copies.backup(read_settings(), out)
    except (copies.BackupError, SettingsError, OSError) as error:
        fail(str(error))
    typer.echo(f"{out}\tphone key {fingerprint}")
    typer.echo(KEEP_THE_KEY)


def restore(
    copy: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="备份 / the copy")],
) -> None:
    """恢复备份 / Put a copy back; the database that was there is set aside. Stop the service first."""
    from serving import backup as copies
    from serving.settings import SettingsError, read_settings

    try:
        aside = copies.restore(read_settings(), copy)
    except (copies.BackupError, SettingsError, OSError) as error:
        fail(str(error))
    typer.echo(f"已恢复 / restored; 原数据库 the one before: {aside or '–'}")


def rotate_phone(
    actor: Actor,
    new_key: Annotated[
        Path | None,
        typer.Option(help="新密钥文件,没有则生成 / file of the new key, made if not there"),
    ] = None,
) -> None:
    """更换手机号密钥 / Re-key the list. Stop the service, and back up, first."""
    from serving.phones import KEY_FILE, Phones, write_privately
    from serving.rotation import CannotRotate, rotate
    from serving.settings import SettingsError

    with opened() as store:
        settings = store.settings
        path = new_key or settings.home / f"{KEY_FILE}.new"
        # On disk before the database needs it: a crash in between must not cost the list.
        if not path.exists():
            write_privately(path, os.urandom(32).hex())
        try:
            new = Phones(bytes.fromhex(path.read_text(encoding="ascii").strip()))
            if new.fingerprint == store.phones.fingerprint:
                fail(f"{path} holds the key in use")
            done = rotate(store, new, actor)
        except (CannotRotate, SettingsError) as refused:
            fail(str(refused))
        except ValueError:
            fail(f"{path} does not hold 64 hexadecimal digits")
        old = store.phones.fingerprint
    typer.echo(
        f"名单 entries {done.entries}, 回复 replies {done.replies}, 推送 events {done.events}"
    )
    if settings.phone_key is not None:
        typer.echo(
            f"请把 TINGXIN_PHONE_KEY 换成该文件的内容 / set TINGXIN_PHONE_KEY to what {path} holds"
        )
        return
    current = settings.home / KEY_FILE
    current.rename(current.with_name(f"{KEY_FILE}.{old}"))  # backups of before need it
    path.rename(current)
    typer.echo(f"旧密钥 the old key: {KEY_FILE}.{old}")

"""What every command of the service starts and ends with: an opened store, a number read, a sentence and status 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from serving.store import Store


@contextmanager
def opened() -> "Iterator[Store]":
    """Yield the store that the environment names; a wrong setting ends the command with a sentence."""
    from serving.settings import SettingsError, read_settings
    from serving.store import Store

    try:
        store = Store.open(read_settings())
    except SettingsError as error:
        fail(str(error))
    try:
        yield store
    finally:
        store.close()


def phone(text: str) -> str:
    """Return a number in E.164, or end the command with a sentence."""
    from serving.phones import PhoneError, e164

    try:
        return e164(text)
    except PhoneError as fault:
        fail(str(fault))


def fail(sentence: str) -> NoReturn:
    """Say what is wrong and end with exit status 2."""
    typer.echo(sentence, err=True)
    raise typer.Exit(2)

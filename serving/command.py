"""What the service's commands share: they open the store, read a number, and fail with a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from serving.store import Store


@contextmanager
def opened_store() -> "Iterator[Store]":
    """Open the store that the environment names; end the command with a sentence if that cannot be."""
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


def fail(sentence: str) -> NoReturn:
    """Say what is wrong and end with exit status 2."""
    typer.echo(sentence, err=True)
    raise typer.Exit(2)

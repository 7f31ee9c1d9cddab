"""Where changes of the list are pushed to: one file per kind of target, no database inside.

An adapter turns a few messages into one call and says, message by message, what came of it. It knows
nothing of retries, order or rates: `relay.py` and `outbox.py` see to those, the same for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable


class TargetFault(ValueError):
    """A target cannot be used as it is configured, or cannot be read. The text holds no secret."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event on its way to a target, with the number."""

    id: str
    event: dict[str, Any] = field(repr=False)  # the CloudEvent; its data holds no number
    phone: str = field(repr=False)  # E.164
    blocked: bool  # whether the number is to be blocked there; what the list says now
    at: datetime  # of the change

    @property
    def method(self) -> str:
        """How the change came about: keyword, model, human or import."""
        return str(self.event["data"].get("method", ""))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a message.

    `failed` is tried again. `refused`: the target found fault with the call; a message that was not
    alone in it is tried once more alone. `dead`: it cannot be had of this target. `gone`: the target
    wants nothing more. `retry_after` in seconds, if the target asks for it.
    """

    what: Literal["delivered", "failed", "refused", "dead", "gone"]
    error: str = ""  # neither a number nor a secret, nor a text of the target's that may hold one
    retry_after: float = 0.0


DELIVERED = Outcome("delivered")


@dataclass(frozen=True, slots=True)
class Listed:
    """A number that a target blocks."""

    phone: str = field(repr=False)  # E.164
    note: str = ""  # what the target says of it


class Adapter(Protocol):
    """A target as the relay sees it."""

    per_call: int  # messages that one call takes
    # The target knows a number or does not: it is told what the list says now, not what happened.
    mirrors_numbers: bool

    async def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Make one call for up to `per_call` messages, all to be blocked or none; return what came of each."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Readable(Protocol):
    """A target that can be asked what it blocks."""

    async def listed(self) -> list[Listed]:
        """Return all that it blocks; raise TargetFault if it does not say."""
        ...

    def holds(self, phone: str) -> bool:
        """Say whether the target can block such a number at all."""
        ...

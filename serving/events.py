"""What passes from vendors and streams into serving: `InboundReply`, and how a callback may be at fault."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal


class MalformedCallback(ValueError):
    """A callback as a whole cannot be read. The message holds no content of it."""


class Unproven(Exception):
    """A callback does not prove that its vendor sent it. The message holds no content of it.

    `challenge` is the scheme that HTTP's WWW-Authenticate names.
    """

    def __init__(self, why: str, challenge: str = "Signature") -> None:
        super().__init__(why)
        self.challenge = challenge


class VendorUnavailable(Exception):
    """Something that a callback needs cannot be had just now; the vendor shall send it again."""


@dataclass(frozen=True, slots=True)
class Callback:
    """A vendor's request as it came. The repr shows nothing of it."""

    method: str
    url: str = field(repr=False)  # as the vendor wrote it: public base, path, query
    headers: Mapping[str, str] = field(repr=False)  # names in lower case
    body: bytes = field(repr=False)
    received_at: datetime  # our clock


@dataclass(frozen=True, slots=True)
class Answer:
    """What tells a vendor, in its own form, that all is recorded. The status is 200."""

    body: bytes = b""
    media_type: str = "text/plain"


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a long message a reply is: number 1 … total of the message `ref`."""

    ref: str
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class InboundReply:
    """One message from a person. The repr hides who wrote and what.

    >>> from datetime import UTC
    >>> InboundReply("aliyun", "42", "+8613800001001", "别再发了", datetime(2026, 1, 1, tzinfo=UTC))
    InboundReply(vendor='aliyun', id='42')
    """

    vendor: str
    id: str  # the vendor's message id; "" where it gives none (see Phones.message_id)
    phone: str = field(repr=False)  # E.164
    text: str = field(repr=False)
    received_at: datetime = field(repr=False)  # our clock
    vendor_time: datetime | None = field(default=None, repr=False)  # theirs, with its zone
    to: str = field(default="", repr=False)  # the number or extension code that was answered
    signature: str = field(
        default="", repr=False
    )  # 签名, the sender's name in the message answered
    campaign: str = field(default="", repr=False)
    # What the vendor's own opt-out service has already taken the message for; "" where it says nothing.
    effect: Literal["", "opt_out", "resume"] = field(default="", repr=False)
    part: Part | None = field(default=None, repr=False)  # None: the message is whole
    key_id: str = field(
        default="", repr=False
    )  # of the API key that it came with; "" where the vendor signs

    def __post_init__(self) -> None:
        for name in ("id", "text", "to", "signature", "campaign"):
            object.__setattr__(self, name, storable(getattr(self, name)))
        if self.vendor_time is not None and not 2000 <= self.vendor_time.year < 3000:
            object.__setattr__(self, "vendor_time", None)  # a broken clock, or a field left empty

    @property
    def source(self) -> str:
        """Who told us, as far as it proved itself: the vendor, and whose key it used."""
        return f"{self.vendor}:{self.key_id}" if self.key_id else self.vendor

    @property
    def asked_at(self) -> datetime:
        """When the person wrote, as far as it is known; never later than we heard of it.

        A vendor's clock that runs ahead must not make an opt-out younger than the START that follows it.
        """
        return min(self.vendor_time or self.received_at, self.received_at)


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of a callback that cannot be taken: its position (from 0) and why, without its content."""

    position: int
    why: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A callback, read: what can be taken in and what cannot."""

    replies: tuple[InboundReply, ...]
    faults: tuple[Fault, ...] = ()


def storable(text: str) -> str:
    """Replace what no database takes as text: NUL and unpaired surrogates, both possible in JSON.

    An SMS cut within an emoji ends in half of one: the person's 退订 before it counts all the same.

    >>> storable("退订\\ud83d"), storable("\\ud83d\\ude4f")
    ('退订\ufffd', '🙏')
    """
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return paired.replace("\0", "\ufffd")

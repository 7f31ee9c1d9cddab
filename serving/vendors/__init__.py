"""The vendors whose callbacks we take, by the name in `/v1/inbound/{vendor}`. One file each, three steps."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from serving.events import Parsed
from serving.vendors import aliyun, generic


class Vendor(Protocol):
    """What a vendor's file offers: verify, parse, answer. No database, no framework, no state."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise MalformedCallback unless the callback is the vendor's, as far as it can be told."""

    def parse(self, body: bytes, received_at: datetime) -> Parsed:
        """Return the replies in a callback and what is wrong with the rest; raise MalformedCallback."""

    def answer(self) -> bytes:
        """Return the JSON that tells the vendor all is recorded."""


VENDORS: dict[str, Vendor] = {"aliyun": aliyun, "generic": generic}

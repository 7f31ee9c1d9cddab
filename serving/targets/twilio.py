"""Twilio's Consents: opt-outs and opt-ins of up to 25 numbers a call, each answered for itself.

Source: twilio.com/docs/messaging/features/bulk-upsert-consents-api: POST /v1/Consents/Bulk, a form with one
`Items` per consent, JSON each; 100 calls a minute. `correlation_id` is 32 characters: our event id
without its `evt_`. `error_code` 0 is success, 30646 a fault of the item itself.
"""

import json
from collections.abc import Sequence
from typing import Any

from serving.store import now
from serving.targets import DELIVERED, Message, Outcome, TargetFault
from serving.targets.answers import client, code, read_json, unsuccessful
from serving.targets.config import TwilioTarget

PATH = "/v1/Consents/Bulk"
INVALID_ITEM = 30646
TIMEOUT = 8.0  # seconds without a byte; Twilio promises three in all


class Twilio:
    """The adapter of one sender's consents."""

    per_call = 25
    mirrors_numbers = True

    def __init__(self, target: TwilioTarget) -> None:
        self._sender = target.sender
        self._url = target.endpoint + PATH
        auth = (target.sid, target.secret.get_secret_value())
        self._client = client(self._url, TIMEOUT, auth=auth)

    async def send(self, messages: Sequence[Message]) -> list[Outcome]:
        items = [json.dumps(self._item(m), separators=(",", ":")) for m in messages]
        async with self._client.stream("POST", self._url, data={"Items": items}) as response:
            if not response.is_success:
                return [unsuccessful(response, now())] * len(messages)
            answer = await read_json(response)
        results = _by_correlation(answer)
        return [_outcome(results.get(correlation_id(m))) for m in messages]

    async def close(self) -> None:
        await self._client.aclose()

    def _item(self, message: Message) -> dict[str, str]:
        own = message.method in ("keyword", "model")
        source = ("opt-out-message" if message.blocked else "opt-in-message") if own else "others"
        return {
            "contact_id": message.phone,
            "correlation_id": correlation_id(message),
            "sender_id": self._sender,
            "status": "opt-out" if message.blocked else "opt-in",
            "source": source,
            "date_of_consent": message.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def correlation_id(message: Message) -> str:
    """Return the event's id as Twilio takes it: its 32 hexadecimal digits."""
    return message.id.rpartition("_")[2]


def _by_correlation(answer: Any) -> dict[str, dict[str, Any]]:
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise TargetFault("the answer lists no items")
    return {str(i.get("correlation_id")): i for i in items if isinstance(i, dict)}


def _outcome(item: dict[str, Any] | None) -> Outcome:
    if item is None:
        return Outcome("failed", "Twilio's answer leaves this item out")
    error = item.get("error_code")
    if error == 0 and type(error) is int:
        return DELIVERED
    said = item.get("error_messages")
    codes = [c for c in map(code, said if isinstance(said, list) else []) if c]
    number = error if type(error) is int else "without a number"
    text = " ".join([f"Twilio error {number}", *codes])
    return Outcome("dead" if error == INVALID_ITEM else "failed", text)

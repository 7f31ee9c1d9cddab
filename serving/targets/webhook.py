"""A webhook: the event as a CloudEvent with the number, signed after Standard Webhooks 1.0.0.

Source: standard-webhooks/standard-webhooks, spec/standard-webhooks.md. While secrets are being rotated
every one of them signs, and the receiver accepts whichever it knows. Only 2xx is success; what the
receiver says beside is not read.
"""

import json
from collections.abc import Sequence

from standardwebhooks import Webhook as Signer

from serving.store import now
from serving.targets import DELIVERED, Message, Outcome
from serving.targets.answers import client, unsuccessful
from serving.targets.config import WebhookTarget, webhook_secrets

TIMEOUT = 10.0  # seconds without a byte


class Webhook:
    """The adapter of one receiver."""

    per_call = 1
    mirrors_numbers = False

    def __init__(self, target: WebhookTarget) -> None:
        self._url = target.url
        self._signers = [Signer(secret) for secret in webhook_secrets(target.secret)]
        self._client = client(target.url, TIMEOUT)

    async def send(self, messages: Sequence[Message]) -> list[Outcome]:
        [message] = messages
        at = now()
        body = payload(message)
        headers = {
            "content-type": "application/cloudevents+json; charset=utf-8",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(s.sign(message.id, at, body) for s in self._signers),
        }
        call = self._client.stream("POST", self._url, content=body.encode(), headers=headers)
        async with call as response:
            if response.is_success:
                return [DELIVERED]
            outcome = unsuccessful(response, at)
            if response.status_code == 410:
                return [Outcome("gone", "HTTP 410")]
        # Its schedule says how often a receiver is asked again, whatever the status.
        return [Outcome("failed", outcome.error, outcome.retry_after)]

    async def close(self) -> None:
        await self._client.aclose()


def payload(message: Message) -> str:
    """Return the CloudEvent as it is sent: with the number, which is stored apart from it."""
    data = message.event["data"] | {"phone": message.phone}
    return json.dumps(message.event | {"data": data}, ensure_ascii=False, separators=(",", ":"))

"""The other side of the push, as a sending platform writes it: verify each event, act on it once.

The demo and the tests push to it. It shows what a receiver owes: check the signature over the very bytes
that came, take `webhook-id` as the key that makes a repeated delivery harmless, answer 2xx when done.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass
class Receiver:
    """A small platform on loopback; `url` is known while it listens."""

    secret: str = field(repr=False)
    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)  # verified, repeated deliveries too
    rejected: int = 0
    # What to answer next, (status, headers); 204 once there is nothing left. For tests of retries.
    answers: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)

    def take(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        """Verify a delivery and return the status and headers to answer with."""
        try:
            event = Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            self.rejected += 1
            return 401, {}
        self.events.append(event)
        return self.answers.popleft() if self.answers else (204, {})

    @contextmanager
    def listening(self) -> Iterator["Receiver"]:
        """Listen on any free port until the block ends."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers = receiver.take(body, dict(self.headers))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: the line would hold the request."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # of five, the relay's calls under way overrun it

        server = Server(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/tingxin"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

"""A sending platform that is down, slow or talks nonsense when a test says so, and keeps what came signed."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hmac import compare_digest
from http.client import parse_headers
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

from standardwebhooks import Webhook

NO_CONTENT = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


def status(code: int) -> bytes:
    return f"HTTP/1.1 {code} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()


class _Server(ThreadingTCPServer):
    request_queue_size = 128
    allow_reuse_address = True
    daemon_threads = True


class FaultyPlatform:
    """It answers what `answer` returns, byte for byte; only what it took with 204 counts as known to it.

    Unlike a real one it does not mind how old a delivery is: the tests move the service's clock.
    """

    def __init__(self, secret: str) -> None:
        self._signer = Webhook(secret)
        self.answer: Callable[[], bytes] = lambda: NO_CONTENT
        self.events: list[dict[str, Any]] = []
        self.asked = 0
        self._address = ("127.0.0.1", 0)
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._address[1]}/tingxin"

    def up(self) -> None:
        platform = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                self.rfile.readline()
                headers = parse_headers(self.rfile)
                body = self.rfile.read(int(headers["content-length"] or 0))
                if not body:  # the caller was killed before it had said all
                    return
                platform.asked += 1
                answer = platform.answer()
                if answer == NO_CONTENT:
                    platform._take(body.decode("utf-8"), headers)
                with suppress(ConnectionError):
                    self.wfile.write(answer)

        self._server = _Server(self._address, Handler)
        self._address = self._server.server_address  # type: ignore[assignment]
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Close the port; `up` opens the same."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    def _take(self, body: str, headers: Any) -> None:
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        signature = self._signer.sign(headers["webhook-id"], at, body)
        assert compare_digest(signature, headers["webhook-signature"])
        event = json.loads(body)
        assert event["id"] == headers["webhook-id"]
        self.events.append(event)

    @contextmanager
    def listening(self) -> Iterator["FaultyPlatform"]:
        self.up()
        try:
            yield self
        finally:
            self.down()

"""Round every request: one log line that names nobody, a limit to the body, headers for browsers."""

import time
import traceback
from collections.abc import Mapping
from pathlib import PurePath

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import Problem

log = structlog.get_logger()


SECURITY_HEADERS = {
    "Cache-Control": "no-store",  # an answer may hold a number or a text
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # a path may hold a key
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SecurityHeaders:
    """Adds to every answer what keeps browsers and caches from doing anything with it.

    A route that serves pages sets its own policy: what an answer says already stands. TLS, and with it
    Strict-Transport-Security, is the business of the proxy in front.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, guarded)


class RequestLog:
    """Logs method, route template, status and milliseconds. Never the path or the query: they hold numbers
    and keys. An exception that no route handled ends here, as its class and place: its text may hold both.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{PurePath(frame.filename).name}:{frame.lineno}"
            log.error("unhandled", error=type(error).__name__, place=place)
            if not status:
                problem = Problem("internal", "see the service's log")
                await problem.response()(scope, receive, watch)
        route = getattr(scope.get("route"), "path", "(no route)")
        milliseconds = round((time.perf_counter() - started) * 1000, 1)
        log.info("request", method=scope["method"], route=route, status=status, ms=milliseconds)


class BodyLimit:
    """Reads a body of at most so many bytes before the application sees the request; answers 413 beyond.

    What comes to a path of `streamed` is passed on as it comes, up to that path's own limit.
    """

    def __init__(self, app: ASGIApp, limit: int, streamed: Mapping[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (longest := self._streamed.get(scope["path"])) is not None:
            await self._app(scope, _counted(receive, longest), send)
            return
        body = await self._read(receive)
        if body is None:
            await _too_large(self._limit).response()(scope, receive, send)
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | None:
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            part = message.get("body", b"")
            size += len(part)
            if size > self._limit:
                return None
            parts.append(part)
            more = message["type"] == "http.request" and message.get("more_body", False)
        return b"".join(parts)


def _counted(receive: Receive, limit: int) -> Receive:
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return counted


def _too_large(limit: int) -> Problem:
    return Problem("too-large", f"a body may have {limit} bytes")

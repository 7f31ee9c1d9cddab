"""Traces, for who runs OpenTelemetry: off unless TINGXIN_TRACES_URL names a collector (extra `otel`).

Spans: each request (method, route template, status), each batch of the intake (how many replies), each round
of pushes (target, how many). Never a number, a text, a path, a key or an exception's words.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

Value = str | int


class Traces:
    """Where spans go: to a provider of its own, so that two services can live in one process, or nowhere."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("tingxin") if provider else None

    @classmethod
    def open(cls, settings: Settings) -> "Traces":
        """Return the traces that the settings ask for; raise SettingsError where they cannot be made."""
        if settings.traces_url is None:
            return OFF
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as missing:
            raise SettingsError(
                f"TINGXIN_TRACES_URL needs {missing.name}: pip install 'tingxin[otel]'"
            ) from None
        provider = TracerProvider(resource=Resource.create({"service.name": "tingxin"}))
        exporter = OTLPSpanExporter(endpoint=str(settings.traces_url))
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider)

    @property
    def are_on(self) -> bool:
        return self._tracer is not None

    @contextmanager
    def span(
        self, name: str, parent: "Context | None" = None, **attributes: Value
    ) -> "Iterator[Span | None]":
        """Open a span for the block; of an exception it names the class. Does nothing where traces are off."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry.trace import StatusCode

        named = {key.replace("__", "."): value for key, value in attributes.items()}
        with self._tracer.start_as_current_span(
            name, parent, attributes=named, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise

    def close(self) -> None:
        """Send what waits."""
        if self._provider is not None:
            self._provider.shutdown()


OFF = Traces()


class RequestTrace:
    """Opens a span for each request, within the caller's trace where it sends one (W3C traceparent)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = getattr(scope["app"].state, "service", None)
        if scope["type"] != "http" or service is None or not service.traces.are_on:
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        caller = TraceContextTextMapPropagator().extract(headers)
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with service.traces.span(
            scope["method"], caller, http__request__method=scope["method"]
        ) as span:
            try:
                await self._app(scope, receive, watch)
            finally:
                route = getattr(scope.get("route"), "path", "(no route)")
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(StatusCode.ERROR)

"""Spans say what was done and how long it took, and name nobody."""

import builtins
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving import auth, service
from serving.api import create_app
from serving.receiver import Receiver
from serving.settings import Settings, SettingsError
from serving.store import Store
from serving.traces import OFF, Traces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, ReadableSpan]]]:
    """The service's spans so far, by name, kept in memory."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    traces = Traces(provider)
    monkeypatch.setattr(service.Traces, "open", classmethod(lambda _cls, _settings: traces))
    yield lambda: {span.name: span for span in kept.get_finished_spans()}


def test_a_reply_is_traced_from_the_call_to_the_push_and_stays_nameless(
    pushing: Settings,
    classifier: Any,
    receiver: Receiver,
    spans: Callable[[], dict[str, ReadableSpan]],
) -> None:
    store = Store.open(pushing)
    with store.write() as connection:
        key = auth.create(connection, "a", ["admin"])
    store.close()
    with TestClient(create_app(pushing, classifier)) as client:
        path = f"/v1/inbound/generic/{key}"
        body = {"id": "m1", "phone": "13800001001", "text": "退订"}
        headers = {"traceparent": PARENT}
        assert client.post(path, json=body, headers=headers).status_code == 200
        client.get("/v1/suppressions/13800001001", headers={"x-api-key": key})
        assert client.get("/nowhere/13800001001").status_code == 404
        deadline = time.monotonic() + 10
        while "push" not in spans() and time.monotonic() < deadline:
            time.sleep(0.02)
    assert receiver.events
    found = spans()
    inbound = found["POST /v1/inbound/{vendor}/{key}"]
    assert inbound.context is not None
    assert f"{inbound.context.trace_id:032x}" == PARENT.split("-")[1]
    assert (inbound.attributes or {})["http.response.status_code"] == 200
    assert {"intake.batch", "intake.read", "intake.record", "push"} <= found.keys()
    assert {"GET /v1/suppressions/{phone}", "GET (no route)"} <= found.keys()
    written = "".join(span.to_json() for span in found.values())
    assert not any(secret in written for secret in ("1380000", "退订", key))


def test_an_exceptions_words_stay_out(spans: Callable[[], dict[str, ReadableSpan]]) -> None:
    traces = service.Traces.open(Settings())
    with pytest.raises(ValueError, match="13800001001"), traces.span("x"):
        raise ValueError("13800001001")
    span = spans()["x"]
    assert (span.status.description, span.status.is_ok) == ("ValueError", False)
    assert "13800001001" not in span.to_json()


def test_without_a_collector_nothing_is_traced() -> None:
    assert Traces.open(Settings()) is OFF
    with OFF.span("x") as span:
        assert span is None


def test_without_the_extra_a_collector_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingsError, match=r"tingxin\[otel\]"):
        Traces.open(Settings(traces_url="http://127.0.0.1:4318/v1/traces"))


def test_with_a_collector_there_are_traces() -> None:
    traces = Traces.open(Settings(traces_url="http://127.0.0.1:9/v1/traces"))
    assert traces.are_on
    traces.close()

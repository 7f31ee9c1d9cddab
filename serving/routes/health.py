"""Is it alive, can it work, what does it measure, what has it done: /healthz /readyz /metrics /v1/stats."""

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from serving import outbox, tables
from serving.problems import Problem
from serving.relay import is_enabled
from serving.routes import Running, opens

router = APIRouter()


@router.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz")
def readyz(service: Running) -> dict[str, Any]:
    """Return "ok"; "degraded" where something is amiss though replies are taken; 503 where they are not."""
    url = service.settings.push_url
    try:
        with service.store.read() as connection:
            counts = outbox.counts(connection)
            push = "not configured" if url is None else "ok"
            if url is not None and not is_enabled(connection, url):
                push = "disabled by the receiver (410); replay dead letters to enable it"
    except SQLAlchemyError as error:
        raise Problem("not-recorded", f"the database fails: {type(error).__name__}") from None
    if not service.intake.takes_replies:
        raise Problem("not-recorded", "the intake has stopped; restart the service")
    free_text = service.classifier.reads_free_text
    dead = counts.get("dead", 0)
    well = free_text and not dead and push in ("ok", "not configured")
    return {
        "status": "ok" if well else "degraded",
        "model": "ok" if free_text else "keywords only: the encoder did not load",
        "bundle": service.classifier.bundle.version,
        "push": push,
        "pending": counts.get("pending", 0),
        "dead_letters": dead,
    }


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "Prometheus' text format", "content": {"text/plain": {}}}},
)
def metrics(service: Running) -> Response:
    content = service.metrics.exposition(service.store)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/stats", dependencies=[Depends(opens("read"))])
def stats(service: Running) -> dict[str, dict[str, int]]:
    """Return counts: replies by action, list entries by state, open items by queue, events by state."""

    def by(column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> dict[str, int]:
        query = sa.select(column, sa.func.count()).where(*where).group_by(column)
        return {row[0]: row[1] for row in connection.execute(query)}

    with service.store.read() as connection:
        return {
            "replies": by(tables.replies.c.action),
            "suppressions": by(tables.suppressions.c.state),
            "queue": by(tables.queue.c.queue, tables.queue.c.state == "open"),
            "outbox": outbox.counts(connection),
        }

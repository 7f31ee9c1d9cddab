"""Is it alive, can it work, what does it measure, what has it done: /healthz /readyz /metrics /v1/stats."""

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from serving import guard, outbox, tables
from serving.problems import Problem
from serving.routes import Running, opens
from serving.store import now
from serving.target_views import views

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    # async: it says so even while every thread waits for the disk.
    return {"status": "ok"}


@router.get("/readyz")
def readyz(service: Running) -> dict[str, Any]:
    """Return "ok"; "degraded" where something is amiss though replies are taken; 503 where they are not."""
    try:
        with service.store.read() as connection:
            targets = views(connection, service.settings.all_targets, now())
            counts = _by_state(outbox.counts(connection))
            flooded = [w.name for w in guard.watches(connection) if w.is_open]
    except SQLAlchemyError as error:
        raise Problem("not-recorded", f"the database fails: {type(error).__name__}") from None
    if not service.intake.takes_replies:
        raise Problem("not-recorded", "the intake has stopped; restart the service")
    disabled = [t["name"] for t in targets if t["state"] == "disabled"]
    push = "ok" if service.settings.all_targets else "not configured"
    if disabled:
        push = f"disabled: {', '.join(disabled)}; see /v1/targets"
    free_text = service.classifier.reads_free_text
    dead = counts.get("dead", 0)
    well = free_text and not dead and not disabled and not flooded
    return {
        "status": "ok" if well else "degraded",
        "model": "ok" if free_text else "keywords only: the encoder did not load",
        "bundle": service.classifier.bundle.version,
        "push": push,
        "breaker": f"open: {', '.join(flooded)}; see `tingxin breaker status`"
        if flooded
        else "closed",
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
    """Return counts: replies by action, list entries by state, open items by queue, events by state;
    of the breaker, which watches are open (1)."""

    def by(column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> dict[str, int]:
        query = sa.select(column, sa.func.count()).where(*where).group_by(column)
        return {row[0]: row[1] for row in connection.execute(query)}

    with service.store.read() as connection:
        return {
            "replies": by(tables.replies.c.action),
            "suppressions": by(tables.suppressions.c.state),
            "queue": by(tables.queue.c.queue, tables.queue.c.state == "open"),
            "outbox": _by_state(outbox.counts(connection)),
            "breaker": {w.name: int(w.is_open) for w in guard.watches(connection)},
        }


def _by_state(counts: dict[tuple[str, str], int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, state), number in counts.items():
        found[state] = found.get(state, 0) + number
    return found

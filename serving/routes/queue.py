"""The queues over HTTP: what waits for a person, and the person's verdict."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from model.labels import LabelError
from serving import triage
from serving.problems import Problem
from serving.routes import SAID, STORABLE, Body, Id, Running, opens
from serving.triage import AlreadyClosed, Outcome, UnknownItem, Verdict

router = APIRouter(prefix="/v1/queue", dependencies=[Depends(opens("review"))])


class VerdictBody(Body):
    """A named person's verdict: the decision is right, the labels are others, or the number is released."""

    outcome: Outcome
    actor: Annotated[str, Field(min_length=1, max_length=100, pattern=SAID)]
    reason: Annotated[str, Field(max_length=2000, pattern=STORABLE)] = ""
    labels: Annotated[list[str], Field(max_length=50)] | None = None  # for `correct`; may be empty


@router.get("")
def listing(
    service: Running,
    queue: Annotated[str | None, Query(max_length=40, pattern=STORABLE)] = None,
    state: Literal["open", "done"] = "open",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> dict[str, Any]:
    """Return what waits, the most urgent first, numbers masked."""
    with service.store.read() as connection:
        return {"items": triage.listing(connection, queue, state, limit, offset)}


@router.get("/{item_id}")
def one(item_id: Id, service: Running) -> dict[str, Any]:
    """Return one item with the full number, for the person who calls back."""
    try:
        with service.store.read() as connection:
            return triage.one(connection, service.store, item_id)
    except UnknownItem:
        raise Problem("not-found", "no item of this id") from None


@router.post("/{item_id}")
def close(item_id: Id, body: VerdictBody, service: Running) -> dict[str, Any]:
    """Record a verdict and do what it says to the list."""
    if body.outcome == "release" and not body.reason.strip():
        raise Problem("invalid", "a release needs a reason")
    if (body.outcome == "correct") != (body.labels is not None):
        raise Problem("invalid", "labels belong to the outcome 'correct', and only to it")
    try:
        for label in body.labels or ():
            service.classifier.bundle.schema.index(label)
        verdict = Verdict(body.outcome, body.actor, body.reason, tuple(body.labels or ()))
        closed = triage.close(service.store, item_id, verdict)
    except LabelError as fault:
        raise Problem("invalid", str(fault)) from None
    except UnknownItem:
        raise Problem("not-found", "no item of this id") from None
    except AlreadyClosed:
        raise Problem("conflict", "this item has its verdict") from None
    service.relay.wake()
    return closed

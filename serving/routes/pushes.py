"""The targets of the pushes and what they did not get: /v1/targets, /v1/dead-letters."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from serving import dead_letters, outbox, target_states
from serving.auth import Caller
from serving.problems import Problem
from serving.routes import Body, Running, opens
from serving.store import now
from serving.target_views import views

router = APIRouter(prefix="/v1")

NAME = r"^[a-z][a-z0-9-]{0,29}$"
EVENT = r"^evt_[0-9a-f]{32}$"
EventId = Annotated[str, Field(pattern=EVENT)]
TargetName = Annotated[str, Path(pattern=NAME)]


class Disabling(Body):
    """An operator stops the pushes to a target, and says why."""

    reason: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00]+$")]


class Replay(Body):
    """Which dead letters to send anew: those named, those of a target, or all."""

    events: Annotated[tuple[EventId, ...], Field(max_length=500)] = ()
    target: Annotated[str, Field(pattern=NAME)] | None = None


@router.get("/targets", dependencies=[Depends(opens("read"))])
def targets(service: Running) -> dict[str, Any]:
    """Return each target: whether it is called, what waits for it, what was given up, for how long."""
    with service.store.read() as connection:
        return {"targets": views(connection, service.settings.all_targets, now())}


@router.post("/targets/{name}/enable", dependencies=[Depends(opens("admin"))])
def enable(name: TargetName, service: Running) -> dict[str, Any]:
    """Send to a target again that was disabled or asked to be left alone for a while."""
    with service.store.write() as connection:
        known = target_states.enable(connection, name)
    if not known:
        raise Problem("not-found", "no target of this name")
    service.relay.wake()
    return {"target": name, "enabled": True}


@router.post("/targets/{name}/disable")
def disable(
    name: TargetName,
    body: Disabling,
    service: Running,
    caller: Annotated[Caller, Depends(opens("admin"))],
) -> dict[str, Any]:
    """Send a target nothing more; its letters wait, and lose no attempt."""
    reason = f"{caller.name}: {body.reason}"
    with service.store.write() as connection:
        known = target_states.disable(connection, name, reason, now())
    if not known:
        raise Problem("not-found", "no target of this name")
    return {"target": name, "enabled": False}


@router.get("/dead-letters", dependencies=[Depends(opens("read"))])
def listing(
    service: Running,
    target: Annotated[str | None, Query(pattern=NAME)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Return the events that were given up, oldest first, with the last error."""
    with service.store.read() as connection:
        found = dead_letters.listing(connection, target, limit)
        number = sum(n for (_, state), n in outbox.counts(connection).items() if state == "dead")
    return {"dead_letters": found, "total": number}


@router.get("/dead-letters/{event_id}", dependencies=[Depends(opens("read"))])
def one(event_id: Annotated[str, Path(pattern=EVENT)], service: Running) -> dict[str, Any]:
    """Return an event that was given up, once for each target that lacks it; the number masked."""
    with service.store.read() as connection:
        found = dead_letters.one(connection, event_id)
    if not found:
        raise Problem("not-found", "no dead letter of this id")
    return {"dead_letters": found}


@router.post("/dead-letters/replay", dependencies=[Depends(opens("admin"))])
def replay(body: Replay, service: Running) -> dict[str, int]:
    """Send dead letters anew; those about an entry that has changed since are superseded instead."""
    with service.store.write() as connection:
        sent, superseded = dead_letters.replay(connection, now(), body.events, body.target)
    service.relay.wake()
    return {"sent": sent, "superseded": superseded}

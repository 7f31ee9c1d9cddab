"""A target as people look after it: is it called, what waits, what was given up."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from serving import outbox, target_states
from serving.targets.config import Target


def views(connection: Connection, targets: Sequence[Target], at: datetime) -> list[dict[str, Any]]:
    """Return the configured targets in their order, then those with letters that are configured no more.

    `state` is `ok`, `paused`, `disabled`, or `unconfigured`; ages in seconds.
    """
    known = target_states.states(connection)
    counts, oldest = outbox.counts(connection), outbox.oldest_pending(connection)
    kinds = {target.name: target.kind for target in targets}
    left = sorted(name for name in oldest if name not in kinds and name != outbox.NOBODY)
    shown = []
    for name in [*kinds, *left]:
        state = known.get(name)
        age = max(0.0, (at - oldest[name]).total_seconds()) if name in oldest else 0.0
        shown.append(
            {
                "name": name,
                "kind": kinds.get(name),
                "state": _state(state, at) if name in kinds else "unconfigured",
                "reason": state.reason if state else None,
                "disabled_at": _iso(state.disabled_at if state else None),
                "paused_until": _iso(state.paused_until if state else None),
                "pending": counts.get((name, "pending"), 0),
                "dead_letters": counts.get((name, "dead"), 0),
                "oldest_unpushed_seconds": round(age, 1),
            }
        )
    return shown


def _state(state: target_states.TargetState | None, at: datetime) -> str:
    if state is None or state.is_open(at):
        return "ok"
    return "disabled" if state.disabled_at is not None else "paused"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None

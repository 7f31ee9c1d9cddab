"""The breaker at work: watches kept in the database, the model's hand stayed, the alarm raised.

The watch `model` counts the replies that no keyword decides: does the model want their number off the list
(suppress, hold)? While it is open a wish to suppress becomes a hold, and once `breaker_max_held` numbers are
held, any further one goes to a person with the list untouched. Keywords are honoured as ever.

Each source (a vendor, and the API key it came with) has a watch of its own, which counts keyword opt-outs of
numbers never heard of before: somebody who makes callbacks up has many of those. It only raises the alarm;
the numbers are stopped, since a person who wrote 退订 must not pay for our doubt.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from model.classifier import Prediction
from model.policy import Policy
from serving import receipts, tables
from serving.breaker import Limits, Watch
from serving.events import InboundReply
from serving.settings import Settings
from serving.store import Store, among, now

MODEL = "model"
log = structlog.get_logger()


class NotOpen(RuntimeError):
    """No open watch has this name."""


class Guard:
    """The watches within one writing transaction; hold the receipt chain's lock while using it."""

    def __init__(
        self, connection: Connection, chain: receipts.Chain, store: Store, at: datetime
    ) -> None:
        self._connection = connection
        self._chain = chain
        self._phones = store.phones
        self._at = at
        self._limits = limits(store.settings)
        self._max_held = store.settings.breaker_max_held
        self._list = store.settings.brand_list
        self._is_on = self._limits.window > 0
        self._before = {w.name: w for w in watches(connection)} if self._is_on else {}
        self._watches = dict(self._before)
        self._known: set[str] = set()
        self._news: list[dict[str, Any]] = []

    def meet(self, replies: Sequence[InboundReply]) -> None:
        """Look up which of these people have been heard of."""
        if not self._is_on:
            return
        r, s = tables.replies.c, tables.suppressions.c
        keys = [self._phones.key(reply.phone) for reply in replies]
        wrote = sa.select(r.phone_hmac).where(among(self._connection, r.phone_hmac, keys))
        stands = sa.select(s.phone_hmac).where(
            s.list == self._list, among(self._connection, s.phone_hmac, keys)
        )
        self._known |= set(self._connection.scalars(wrote.union(stands)))

    def passed(
        self, reply: InboundReply, prediction: Prediction, policy: Policy, reads_free_text: bool
    ) -> tuple[Prediction, dict[str, Any] | None]:
        """Count a reply; return what may be done about it, and what the breaker says if that is less."""
        if not self._is_on:
            return prediction, None
        key = self._phones.key(reply.phone)
        by_keyword = prediction.hit is not None
        is_strange = by_keyword and prediction.action == "suppress" and key not in self._known
        self._known.add(key)
        self._count(reply.source, is_strange)
        # Without its encoder the classifier wants nothing; that must not become usual.
        if by_keyword or not reads_free_text:
            return prediction, None
        wants = prediction.action in ("suppress", "hold")
        watch = self._count(MODEL, wants)
        if not (watch.is_open and wants):
            return prediction, None
        may_hold = watch.held < self._max_held
        if may_hold:
            self._watches[MODEL] = replace(watch, held=watch.held + 1)
        stayed = _stayed(prediction, policy, may_hold, watch)
        said = watch.facts() | {"action": prediction.action, "scope": prediction.scope}
        return stayed, said

    def keep(self) -> None:
        """Write what changed."""
        changed = [w for w in self._watches.values() if w != self._before.get(w.name)]
        for watch in changed:
            _write(self._connection, watch, watch.name not in self._before)
        for facts in self._news:
            self._chain.append(receipts.new_id(), {"kind": "breaker", **facts}, self._at)

    def announce(self) -> None:
        """Raise the alarm; call it once all is committed."""
        for facts in self._news:
            told = {k: v for k, v in facts.items() if k != "event"}
            if facts["event"] == "opened":
                log.error("breaker_opened", **told, remedy="see `tingxin breaker status`")
            else:
                log.warning("breaker_closed", **told)

    def _count(self, name: str, is_yes: bool) -> Watch:
        before = self._watches.get(name) or Watch(name)
        after = before.counted(is_yes, self._at, self._limits)
        self._watches[name] = after
        if after.is_open != before.is_open:
            event = "opened" if after.is_open else "closed"
            facts = (after if after.is_open else replace(before, latest=after.latest)).facts()
            self._news.append({"event": event, "actor": "tingxin"} | facts)
        return after


def limits(settings: Settings) -> Limits:
    """Return the limits that the settings give."""
    return Limits(settings.breaker_window, settings.breaker_factor, settings.breaker_history)


def watches(connection: Connection) -> list[Watch]:
    """Return all watches, by name."""
    rows = connection.execute(sa.select(tables.breaker).order_by(tables.breaker.c.name))
    return [Watch(**row._mapping) for row in rows]


def close(store: Store, name: str, actor: str, reason: str, is_new_usual: bool) -> Watch:
    """A named person closes a watch, for a reason; return it as it then is. Raises NotOpen."""
    if not (actor.strip() and reason.strip()):
        raise ValueError("closing the breaker needs a name and a reason")
    at = now()
    with store.write() as connection, receipts.Chain(connection) as chain:
        watch = next((w for w in watches(connection) if w.name == name and w.is_open), None)
        if watch is None:
            raise NotOpen(f"no open watch is called {name!r}; see `tingxin breaker status`")
        after = watch.closed(is_new_usual, limits(store.settings))
        _write(connection, after, is_new=False)
        said = {"event": "closed", "actor": actor, "reason": reason, "new_usual": is_new_usual}
        chain.append(receipts.new_id(), {"kind": "breaker", **said, **watch.facts()}, at)
    return after


def _write(connection: Connection, watch: Watch, is_new: bool) -> None:
    table = tables.breaker
    values = {c.name: getattr(watch, c.name) for c in table.c}
    if is_new:
        connection.execute(table.insert(), values)
    else:
        connection.execute(table.update().where(table.c.name == watch.name).values(values))


def _stayed(prediction: Prediction, policy: Policy, may_hold: bool, watch: Watch) -> Prediction:
    """Return a held or reviewed prediction in place of one that stops; a more urgent queue stands."""
    queue, priority, due = prediction.queue, prediction.priority, prediction.due
    if priority is None or priority > policy.hold.priority:
        queue, priority, due = policy.hold.queue, policy.hold.priority, policy.hold.due
    done = "先暂停营销短信,待人工确认" if may_hold else "不改动名单,请人工处理"
    rate = f"近 {len(watch.latest)} 条中 {watch.yes} 条,平时 {watch.usual:.1%}"
    return replace(
        prediction,
        action="hold" if may_hold else "review",
        queue=queue,
        priority=priority,
        due=due,
        scope=prediction.scope if may_hold else None,
        reason=f"熔断器 breaker 已打开({rate}):{done};{prediction.reason}",
    )

"""Compares the list with what a target blocks, number by number, and pushes what is missing there.

Nothing is ever unblocked by it: what a target blocks beyond the list is reported, with what is known of
it, and a person decides.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving import outbox, tables
from serving.phones import masked
from serving.store import Store, now
from serving.suppressions import BLOCKING
from serving.targets import Listed, Readable, TargetFault
from serving.targets.config import Target
from serving.targets.opening import open_target

QUEUED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """A number that is blocked on one side only, and why, as far as it is known."""

    what: Literal["missing", "extra"]
    phone_masked: str
    why: str
    entry: Any = field(default=None, repr=False)  # the row of the list, of what is missing


@dataclass(slots=True)
class Report:
    """What a comparison found."""

    target: str
    here: int = 0  # numbers that the list blocks and the target should
    there: int = 0  # numbers that the target blocks
    on_the_way: int = 0  # different, with a letter that has just been sent or waits
    missing: list[Difference] = field(default_factory=list)
    extra: list[Difference] = field(default_factory=list)
    queued: int = 0  # of the missing, pushed anew


def is_readable(target: Target) -> bool:
    """Say whether targets of this kind can be asked what they block."""
    return target.kind in ("aws", "baidu")


def reconcile(store: Store, target: Target, repair: bool = False) -> Report:
    """Compare a target with the list, and queue what it lacks if told to; raise TargetFault.

    The letters queued go out as all others do, by the running service.
    """
    started = now()
    there, holds = asyncio.run(_read(target))
    keyed = {store.phones.key(number.phone): number for number in there}
    report = Report(target.name, there=len(keyed))
    with store.read() as connection:
        on_the_way = _on_the_way(connection, target.name, started)
        seen: set[str] = set()
        for entry in _blocked_here(connection, target):
            if entry.phone_hmac in seen:
                continue
            seen.add(entry.phone_hmac)
            report.here += 1
            if keyed.pop(entry.phone_hmac, None) is not None:
                continue
            if entry.phone_hmac in on_the_way:
                report.on_the_way += 1
                continue
            phone = store.phones.unseal(entry.phone_sealed) if entry.phone_sealed else None
            why, mendable = _why_missing(connection, target.name, entry, phone, holds)
            report.missing.append(
                Difference("missing", entry.phone_masked, why, entry if mendable else None)
            )
        for key, number in keyed.items():
            if key in seen:  # on the list twice, and read already
                continue
            if key in on_the_way:
                report.on_the_way += 1
                continue
            why = _why_extra(connection, key, number)
            report.extra.append(Difference("extra", masked(number.phone), why))
    if repair:
        _queue(store, target.name, report)
    return report


async def _read(target: Target) -> tuple[list[Listed], Any]:
    adapter = open_target(target)
    try:
        if not isinstance(adapter, Readable):
            raise TargetFault(f"a target of the kind {target.kind} cannot be read")
        return await adapter.listed(), adapter.holds
    finally:
        await adapter.close()


def _blocked_here(connection: Connection, target: Target) -> Iterator[Any]:
    c = tables.suppressions.c
    query = sa.select(tables.suppressions).where(c.state.in_(BLOCKING)).order_by(c.created_at, c.id)
    for row in connection.execution_options(yield_per=1000).execute(query):
        if target.takes(row.list, row.scope):
            yield row


def _on_the_way(connection: Connection, target: str, since: datetime) -> set[str]:
    """Return the keys of numbers with a letter that waits, or that arrived since the target was read."""
    c = tables.outbox.c
    waits = sa.and_(c.state == "pending", c.target.in_((outbox.NOBODY, target)))
    arrived = sa.and_(c.state == "delivered", c.target == target, c.delivered_at >= since)
    return set(connection.scalars(sa.select(c.phone_hmac).where(sa.or_(waits, arrived))))


def _why_missing(
    connection: Connection, target: str, entry: Any, phone: str | None, holds: Any
) -> tuple[str, bool]:
    """Return why a number is not blocked there, and whether a push would help."""
    if phone is None:
        return "名单未保存号码,无法补推 / the list keeps no number to push", False
    if not holds(phone):
        return "该平台不收此类号码 / the target takes no such numbers", False
    c = tables.outbox.c
    last = connection.execute(
        sa.select(tables.outbox)
        .where(c.phone_hmac == entry.phone_hmac, c.target == target)
        .order_by(c.seq.desc())
        .limit(1)
    ).one_or_none()
    if last is None:
        return "从未推送 / never pushed: on the list before this target was", True
    if last.state == "dead":
        return f"推送失败 / given up: {last.last_error}", True
    if last.state == "delivered" and last.event["data"]["state"] != "released":
        return (
            f"已于 {last.delivered_at:%Y-%m-%d %H:%M} UTC 送达,后被移除 / pushed, removed there since",
            True,
        )
    return "最后的推送与名单不符 / what was last pushed is not what the list says", True


def _why_extra(connection: Connection, key: str, number: Listed) -> str:
    c = tables.suppressions.c
    entries = connection.execute(
        sa.select(c.state, c.released_at, c.scope).where(c.phone_hmac == key).order_by(c.updated_at)
    ).all()
    note = f"; {number.note}" if number.note else ""
    if not entries:
        return f"名单中没有 / not on the list here{note}"
    last = entries[-1]
    if last.state == "released":
        return f"已于 {last.released_at:%Y-%m-%d} 恢复 / released here{note}"
    return f"仅以 {last.scope} 停发 / blocked here for {last.scope} only{note}"


def _queue(store: Store, target: str, report: Report) -> None:
    """Write a letter for each number that is missing; a dead one about it has had its day."""
    entries = [d.entry for d in report.missing if d.entry is not None]
    c = tables.outbox.c
    for start in range(0, len(entries), QUEUED_AT_ONCE):
        at = now()
        with store.write() as connection:
            for entry in entries[start : start + QUEUED_AT_ONCE]:
                connection.execute(
                    tables.outbox.update()
                    .where(c.phone_hmac == entry.phone_hmac, c.target == target, c.state == "dead")
                    .values(state="superseded", phone_sealed=None)
                )
                data = {name: getattr(entry, name) for name in ("list", "scope", "state", "method")}
                data |= {"receipt": entry.receipt_id, "cursor": None}
                event = outbox.Event(
                    "updated", entry.id, entry.phone_hmac, entry.receipt_id, data, at
                )
                outbox.enqueue(connection, [(event, entry.phone_sealed)], at, target)
                report.queued += 1

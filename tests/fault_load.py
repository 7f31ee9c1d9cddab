"""What the fault tests share: callers that post replies until they are acknowledged, and the count at the end.

A caller does what a vendor does: it sends a reply again, to whichever process answers, until one says
that it is recorded. What was acknowledged is what the service owes.
"""

import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import sqlalchemy as sa
from faulty_platform import FaultyPlatform
from service_process import until

from serving import receipts, tables
from serving.store import Store

STOP_EVERY = 5  # one reply in so many is an opt-out
PER_CALL = 5
PAUSE = 0.15  # seconds between a caller's calls: the load is steady, and its pushes are soon done


def phone(n: int) -> str:
    return f"+861390{n:07}"


@dataclass
class Load:
    """Callers in threads of their own, each with its own replies; `urls` says where the service is now."""

    urls: Callable[[], list[str]]
    key: str
    acknowledged: dict[str, str] = field(default_factory=dict)  # message id → receipt
    answers: Counter[str] = field(default_factory=Counter)  # statuses, and errors of connections
    contradicted: int = 0  # acknowledged twice, with two receipts
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def posting(self, callers: int = 4) -> Iterator[None]:
        """Post while the block runs; what is under way at its end is still brought home."""
        threads = [threading.Thread(target=self._call, args=(k,)) for k in range(callers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(30)
        assert not any(thread.is_alive() for thread in threads), "a caller was never answered"

    def more(self, number: int, seconds: float = 20) -> None:
        """Wait until so many more replies are acknowledged."""
        goal = len(self.acknowledged) + number
        until(lambda: len(self.acknowledged) >= goal, seconds)

    def _call(self, caller: int) -> None:
        first = caller * 100_000
        while not self._over.is_set():
            wanted = {f"m{n}": n for n in range(first, first + PER_CALL)}
            until(lambda wanted=wanted: self._post(wanted), 30)  # type: ignore[misc]
            first += PER_CALL
            self._over.wait(PAUSE)

    def _post(self, wanted: dict[str, int]) -> bool:
        """Post what is not acknowledged yet; say whether all of it now is."""
        replies = [
            {"id": id_, "phone": phone(n), "text": "退订" if n % STOP_EVERY == 0 else f"第{n}条"}
            for id_, n in wanted.items()
        ]
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        urls = self.urls()
        connection = http.client.HTTPConnection(
            urlsplit(random.choice(urls)).netloc if urls else "127.0.0.1:9", timeout=20
        )
        try:
            connection.request("POST", "/v1/replies", json.dumps(replies), headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.answers[type(error).__name__] += 1
            return False
        finally:
            connection.close()
        self.answers[str(answer.status)] += 1
        if answer.status == 200:
            for result in json.loads(body)["results"]:
                if result["status"] in ("stored", "replayed"):
                    before = self.acknowledged.setdefault(result["id"], result["receipt"])
                    self.contradicted += before != result["receipt"]
                    del wanted[result["id"]]
        return not wanted


@dataclass(frozen=True)
class Tally:
    """What is owed and not done; all of it should be zero."""

    lost: int  # replies that were acknowledged and are not there, or with another receipt
    unsuppressed: int  # acknowledged opt-outs whose number is not on the list
    unpushed: int  # numbers on the list that the platform does not know of
    waiting: int  # letters not delivered
    duplicated: int  # replies decided twice, changes told under two ids, ids of no change
    broken: int  # faults of the receipts' chain


CLEAN = Tally(0, 0, 0, 0, 0, 0)


def tally(store: Store, load: Load, platform: FaultyPlatform) -> Tally:
    """Count, and print beside it how much there was."""
    told = {event["id"]: event["data"] for event in list(platform.events)}
    knows = {data["phone"] for data in told.values()}
    with store.read() as connection:
        r, s, c = tables.replies.c, tables.suppressions.c, tables.changes.c
        rows = connection.execute(sa.select(r.vendor_id, r.receipt_id))
        recorded: dict[str, str] = {row[0]: row[1] for row in rows}
        listed = set(connection.scalars(sa.select(s.phone_sealed).where(s.state == "active")))
        blocked = {store.phones.unseal(sealed) for sealed in listed if sealed}
        changed = set(connection.scalars(sa.select(c.cursor)))
        delivered = tables.outbox.c.state == "delivered"
        undelivered = sa.select(sa.func.count()).select_from(tables.outbox).where(~delivered)
        waiting = connection.scalar(undelivered) or 0
        bodies = map(json.loads, connection.scalars(sa.select(tables.receipts.c.body)))
        decided = Counter(body["vendor_id"] for body in bodies if body["kind"] == "reply")
        verdict = receipts.verify(connection)
    stops = {int(id_[1:]) for id_ in load.acknowledged if int(id_[1:]) % STOP_EVERY == 0}
    cursors = Counter(data["cursor"] for data in told.values())
    found = Tally(
        lost=sum(recorded.get(id_) != receipt for id_, receipt in load.acknowledged.items()),
        unsuppressed=len({phone(n) for n in stops} - blocked),
        unpushed=len(blocked - knows),
        waiting=waiting,
        duplicated=load.contradicted
        + sum(n - 1 for n in decided.values())
        + sum(n - 1 for n in cursors.values())
        + len(set(cursors) - changed)
        + len(changed)
        - len(blocked),
        broken=0 if verdict.holds else 1,
    )
    print(  # noqa: T201 - the count is what the test is for
        f"acknowledged {len(load.acknowledged)}, recorded {len(recorded)}, on the list {len(blocked)}, "
        f"deliveries {len(platform.events)} of {len(told)} events, receipts {verdict.checked}, "
        f"answers {dict(load.answers)}: {found}"
    )
    return found

"""Reconciliation finds what a target lacks and what it has beyond, says why, and pushes what is missing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from typer.testing import CliRunner

from serving import exchange, tables
from serving.cli import app
from serving.reconcile import Report, reconcile
from serving.relay import Relay
from serving.settings import Settings
from serving.targets import TargetFault
from serving.targets.config import BaiduTarget, TwilioTarget

OpenRelay = Callable[..., Relay]


class Blacklist:
    """Baidu's side."""

    def __init__(self) -> None:
        self.numbers: list[str] = []

    def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        if request.method == "POST":
            self.numbers += json.loads(request.body)["phone"].split(",")
        elif request.method == "DELETE":
            gone = request.query["phones"][0].split(",")
            self.numbers = [n for n in self.numbers if n not in gone]
        else:
            found = [{"phone": n, "type": "MerchantBlack"} for n in self.numbers]
            page = found if request.query["pageNo"] == ["1"] else []
            return 200, {}, json.dumps({"totalCount": len(found), "blacklists": page}).encode()
        return 200, {}, b""


@pytest.fixture
def blacklist(platform: Any) -> Blacklist:
    blacklist = Blacklist()
    platform.answer = blacklist.answer
    return blacklist


@pytest.fixture
def baidu(platform: Any, blacklist: Blacklist) -> BaiduTarget:
    return BaiduTarget(
        name="baidu", kind="baidu", access_key="a" * 32, secret=SecretStr("b" * 32),
        endpoint=platform.url,
    )  # fmt: skip


@pytest.fixture
def relay(open_relay: OpenRelay, baidu: BaiduTarget) -> Relay:
    return open_relay(baidu)


def add(relay: Relay, *phones: str, scope: str = "marketing") -> None:
    for phone in phones:
        exchange.add(relay._store, "default", f"+86{phone}", scope, "李雷", "来电")


def deliver(relay: Relay) -> None:
    while relay.deliver_due():
        pass


def compare(relay: Relay, target: Any, repair: bool = False) -> Report:
    return reconcile(relay._store, target, repair)


ONE, TWO, THREE, FOUR = (f"1380000100{n}" for n in range(1, 5))


def test_lists_that_agree_show_no_difference(
    relay: Relay, baidu: BaiduTarget, blacklist: Blacklist
) -> None:
    add(relay, ONE, TWO)
    add(relay, ONE, scope="all")  # one number, two entries
    deliver(relay)
    report = compare(relay, baidu)
    assert (report.here, report.there, report.missing, report.extra) == (2, 2, [], [])


def test_what_is_missing_is_told_with_its_reason_and_pushed_by_repair(
    relay: Relay, baidu: BaiduTarget, blacklist: Blacklist, platform: Any
) -> None:
    add(relay, ONE, TWO)
    deliver(relay)
    blacklist.numbers.remove(ONE)
    platform.answer = lambda _: (422, {}, b"")
    add(relay, THREE)
    deliver(relay)
    with relay._store.write() as connection:  # as if it had been there before the target was
        c = tables.outbox.c
        phone = relay._store.phones.key(f"+86{TWO}")
        connection.execute(tables.outbox.delete().where(c.phone_hmac == phone))
    blacklist.numbers.remove(TWO)
    platform.answer = blacklist.answer

    report = compare(relay, baidu, repair=True)
    whys = [(d.phone_masked[-4:], d.why.partition(" / ")[2]) for d in report.missing]
    assert whys == [
        ("1001", "pushed, removed there since"),
        ("1002", "never pushed: on the list before this target was"),
        ("1003", "given up: HTTP 422"),
    ]
    assert (report.queued, report.extra) == (3, [])
    assert compare(relay, baidu).on_the_way == 3
    deliver(relay)
    assert sorted(blacklist.numbers) == [ONE, TWO, THREE]
    again = compare(relay, baidu)
    assert (again.missing, again.extra, again.on_the_way) == ([], [], 0)
    with relay._store.read() as connection:
        states = list(connection.scalars(sa.select(tables.outbox.c.state)))
    assert "dead" not in states  # its letter has had its day


def test_what_is_extra_is_told_with_its_reason_and_left_alone(
    relay: Relay, baidu: BaiduTarget, blacklist: Blacklist
) -> None:
    add(relay, ONE, TWO)
    add(relay, THREE, scope="sender:某贷")
    deliver(relay)
    exchange.release(relay._store, "default", f"+86{ONE}", None, "李雷", "本人要求")
    deliver(relay)
    blacklist.numbers += [ONE, THREE, FOUR]
    report = compare(relay, baidu, repair=True)
    whys = {d.phone_masked[-4:]: d.why.partition(" / ")[2] for d in report.extra}
    assert whys == {
        "1001": "released here",
        "1003": "blocked here for sender:某贷 only",
        "1004": "not on the list here",
    }
    assert (report.queued, report.missing) == (0, [])
    deliver(relay)
    assert FOUR in blacklist.numbers


def test_a_number_that_the_target_cannot_hold_is_told_and_not_pushed(
    relay: Relay, baidu: BaiduTarget, blacklist: Blacklist
) -> None:
    exchange.add(relay._store, "default", "+14158675309", "marketing", "李雷", "来电")
    deliver(relay)
    report = compare(relay, baidu, repair=True)
    [missing] = report.missing
    assert "takes no such numbers" in missing.why
    assert report.queued == 0


def test_a_list_without_numbers_finds_what_is_missing_but_cannot_push_it(
    open_relay: OpenRelay, baidu: BaiduTarget, blacklist: Blacklist
) -> None:
    relay = open_relay(baidu, list_numbers="masked")
    add(relay, ONE, TWO)
    deliver(relay)
    blacklist.numbers.remove(ONE)
    report = compare(relay, baidu, repair=True)
    [missing] = report.missing
    assert "keeps no number" in missing.why
    assert (report.there, report.queued) == (1, 0)


def test_a_target_that_cannot_be_read_is_a_fault(
    relay: Relay, baidu: BaiduTarget, platform: Any
) -> None:
    platform.answer = lambda _: (500, {}, b"")
    with pytest.raises(TargetFault, match="HTTP 500"):
        compare(relay, baidu)
    twilio = TwilioTarget(
        name="twilio", kind="twilio", sid="AC" + "0" * 32, secret=SecretStr("t"),
        sender="+15005550006", endpoint=platform.url,
    )  # fmt: skip
    with pytest.raises(TargetFault, match="kind twilio cannot be read"):
        compare(relay, twilio)


@pytest.fixture
def command(
    settings: Settings, tmp_path: Path, platform: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """`command("--repair")`: `tingxin reconcile` with a targets' file of its own."""
    file = tmp_path / "targets.toml"
    file.write_text(
        f"[baidu]\nkind = 'baidu'\naccess_key = '{'a' * 32}'\nendpoint = '{platform.url}'\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("TINGXIN_HOME", str(settings.home))
    if settings.database_url is not None:
        monkeypatch.setenv("TINGXIN_DATABASE_URL", settings.url)
    monkeypatch.setenv("TINGXIN_TARGETS", str(file))
    monkeypatch.setenv("TINGXIN_SECRET_BAIDU", "b" * 32)
    yield lambda *arguments: CliRunner().invoke(app, ["reconcile", *arguments])


def test_the_exit_status_tells_cron(
    command: Callable[..., Any], relay: Relay, blacklist: Blacklist, platform: Any
) -> None:
    assert command().exit_code == 0
    assert command("nobody").exit_code == 2
    add(relay, ONE)
    deliver(relay)
    blacklist.numbers.clear()
    found = command()
    assert found.exit_code == 1
    assert "baidu\tmissing\t138****1001\t" in found.output
    assert "1 here, 0 there, 1 missing, 0 extra, 0 on the way, 0 queued" in found.output
    repaired = command("--repair")
    assert repaired.exit_code == 0
    assert "1 queued" in repaired.output
    deliver(relay)
    blacklist.numbers.append(FOUR)
    assert command().exit_code == 1
    assert command("--ignore-extra").exit_code == 0
    platform.answer = lambda _: (500, {}, b"")
    unread = command("baidu")
    assert unread.exit_code == 2
    assert "baidu: Baidu answered HTTP 500" in unread.output

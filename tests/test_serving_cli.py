"""The service's commands do to the list what the routes do, and say what they did."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from serving.cli import app
from serving.settings import Settings
from serving.store import Store, now


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TINGXIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tingxin(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


WHO = ("--actor", "李雷", "--reason", "来电")


def test_a_number_is_added_checked_and_released() -> None:
    assert tingxin("suppress", "check", "13800001001").output == "13800001001\t可发 clear\n"
    assert tingxin("suppress", "add", "13800001001", *WHO).output.split()[-1] == "active"
    checked = tingxin("suppress", "check", "13800001001", "13800001002")
    assert checked.exit_code == 1
    assert "停发 suppressed (marketing, active)" in checked.output
    assert tingxin("suppress", "check", "13800001001", "--scope", "otp").exit_code == 0
    assert "released" in tingxin("suppress", "release", "13800001001", *WHO).output
    assert tingxin("suppress", "release", "13800001001", *WHO).exit_code == 2


def test_mistakes_are_sentences() -> None:
    assert "not a phone number" in tingxin("suppress", "check", "12").output
    assert (
        "scope is marketing" in tingxin("suppress", "check", "13800001001", "--scope", "x").output
    )
    assert (
        "scope is marketing"
        in tingxin("suppress", "add", "13800001001", "--scope", "x", *WHO).output
    )
    assert "Missing option" in tingxin("suppress", "release", "13800001001").output


def test_an_export_can_be_imported(tmp_path: Path) -> None:
    tingxin("suppress", "add", "13800001001", *WHO)
    out = tmp_path / "list.csv"
    assert tingxin("suppress", "export", "-o", str(out)).exit_code == 0
    assert out.read_text(encoding="utf-8-sig").startswith("phone,")
    done = tingxin("suppress", "import", str(out), "--actor", "李雷", "--list", "other")
    assert "added 1, known 0" in done.output
    out.write_text("phone\nabc\n13800001002\n", encoding="utf-8")
    done = tingxin("suppress", "import", str(out), "--actor", "李雷")
    assert done.exit_code == 2
    assert f"{out}:2: phone is not a phone number" in done.output


def test_keys_are_made_listed_and_revoked() -> None:
    key = tingxin("keys", "create", "网关", "--scope", "read").output.strip()
    key_id = key.split("_")[1]
    listed = tingxin("keys", "list").output
    assert key_id in listed
    assert key not in listed
    assert "revoked 1" in tingxin("keys", "revoke", key_id).output
    assert tingxin("keys", "revoke", key_id).exit_code == 2
    assert "ingest, read, review, admin" in tingxin("keys", "create", "x", "--scope", "all").output


def test_receipts_are_verified() -> None:
    tingxin("suppress", "add", "13800001001", *WHO)
    assert "1 receipts" in tingxin("receipts", "verify").output


def test_dead_letters_are_listed_and_replayed(home: Path) -> None:
    from serving import tables

    tingxin("suppress", "add", "13800001001", *WHO)
    store = Store.open(Settings(home=home))
    with store.write() as connection:
        dead = {"state": "dead", "attempts": 10, "last_error": "HTTP 500", "next_at": now()}
        connection.execute(tables.outbox.update().values(**dead))
    store.close()
    listed = tingxin("dead-letters", "list").output
    assert listed.startswith("evt_")
    assert "HTTP 500" in listed
    assert "1 to be sent" in tingxin("dead-letters", "replay").output
    assert tingxin("dead-letters", "list").output == ""


def test_the_demo_shows_replies_list_and_verified_pushes(
    keyword_bundle: Any, tmp_path: Path
) -> None:
    samples = Path(__file__).parent.parent / "data" / "sample"
    shown = tingxin("demo", str(samples), "--bundle", str(keyword_bundle))
    assert shown.exit_code == 0, shown.output
    assert "9 events delivered and verified, 0 rejected" in shown.output
    assert '{"code": 0, "msg": "接收成功"}' in shown.output
    assert "恢复 released" in shown.output
    assert "138****1001" in shown.output
    missing = tingxin("demo", str(tmp_path))
    assert missing.exit_code == 2
    assert "platform_replies.csv is not there" in missing.output

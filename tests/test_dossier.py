"""A dossier holds all about one person and nobody else, and shows whatever is done to it afterwards."""

import json
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from serving import auth, dossier, exchange, receipts, tables, triage
from serving.api import create_app
from serving.cli import app
from serving.dossier import Inquiry, NothingFound
from serving.dossier_check import DossierFault, check
from serving.events import InboundReply
from serving.service import Service
from serving.settings import Settings
from serving.store import Store
from serving.triage import Verdict

Reply = Callable[..., InboundReply]
PHONE, OTHER = "+8613800000001", "+8613800000002"
WHO = {"actor": "韩梅梅", "reason": "举报 12345"}


@pytest.fixture
def lived(service: Service, reply: Reply) -> Iterator[Service]:
    """Two people wrote; the first was held, confirmed, released by phone, and opted out again."""
    service.submit([reply(2, "退订"), reply(1, "少发点", id="m1")])
    with service.store.read() as connection:
        [item] = triage.listing(connection, None, "open", 10, 0)
    triage.close(service.store, item["id"], Verdict("confirm", "李雷", "<b>来电</b>"))
    exchange.release(service.store, "default", PHONE, None, "李雷", "本人来电")
    service.submit([reply(2, "你好"), reply(1, "退订")])
    yield service


def made(store: Store, path: Path, **asked: Any) -> Path:
    with path.open("wb") as file:
        dossier.write(store, Inquiry(**WHO | asked), file)
    return path


def read(path: Path, name: str) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name).decode("utf-8")


def bodies(path: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, read(path, "receipts.jsonl").splitlines())
    return [json.loads(line["body"]) for line in lines]


def test_it_holds_all_about_the_number_and_proves_itself(lived: Service, tmp_path: Path) -> None:
    path = made(lived.store, tmp_path / "a.zip", phone=PHONE)
    found = check(path)
    with lived.store.read() as connection:
        head = connection.execute(sa.select(tables.chain)).one()
        assert receipts.verify(connection).holds
    assert (found.receipts, found.on_trust) == (4, 0)
    assert found.number == head.seq - 1  # the dossier's own receipt came after it
    assert [b["kind"] for b in bodies(path)] == ["reply", "verdict", "release", "reply"]
    pushes = [json.loads(line) for line in read(path, "pushes.jsonl").splitlines()]
    assert len(pushes) == 4
    assert {p["receipt"] for p in pushes} == {b["id"] for b in bodies(path)}


def test_number_and_text_are_shown_only_where_asked(lived: Service, tmp_path: Path) -> None:
    hidden = made(lived.store, tmp_path / "a.zip", phone=PHONE)
    shown = made(lived.store, tmp_path / "b.zip", phone=PHONE, reveal=True)
    for path, is_shown in ((hidden, False), (shown, True)):
        with zipfile.ZipFile(path) as archive:
            content = b"".join(map(archive.read, archive.namelist())).decode("utf-8")
        assert (PHONE in content) == is_shown
        assert ("少发点" in content) == is_shown
        assert OTHER not in content
    assert "138****0001" in read(hidden, "summary.html")
    assert "&lt;b&gt;来电" in read(hidden, "summary.html")
    assert check(shown).receipts == 5  # that the first was made is about the person too


def test_a_decision_comes_with_its_verdict_from_either_end(lived: Service, tmp_path: Path) -> None:
    both = bodies(made(lived.store, tmp_path / "a.zip", phone=PHONE))[:2]
    for number, body in enumerate(both):
        path = made(lived.store, tmp_path / f"{number}.zip", receipt=body["id"])
        assert bodies(path) == both
        assert check(path).receipts == 2


def test_that_it_was_made_is_a_receipt(lived: Service, tmp_path: Path) -> None:
    from hashlib import sha256

    path = made(lived.store, tmp_path / "a.zip", phone=PHONE)
    *_, last = bodies(made(lived.store, tmp_path / "b.zip", phone=PHONE))
    assert (last["kind"], last["actor"]) == ("dossier", "韩梅梅")
    assert last["manifest_sha256"] == sha256(read(path, "manifest.json").encode()).hexdigest()


@pytest.mark.parametrize(
    "asked", [{"phone": "+8613800009999"}, {"receipt": "rc_0"}], ids=["number", "id"]
)
def test_nothing_found_leaves_nothing(lived: Service, asked: dict[str, str]) -> None:
    before = chain_length(lived.store)
    with pytest.raises(NothingFound):
        dossier.write(lived.store, Inquiry(**WHO | asked), BytesIO())
    with pytest.raises(ValueError, match="name"):
        dossier.write(lived.store, Inquiry(" ", "x", phone=PHONE), BytesIO())
    with pytest.raises(ValueError, match="one"):
        dossier.write(lived.store, Inquiry(**WHO), BytesIO())
    assert chain_length(lived.store) == before


def chain_length(store: Store) -> int:
    with store.read() as connection:
        return int(connection.scalar(sa.select(tables.chain.c.seq)) or 0)


def forged(path: Path, out: Path, name: str, change: Callable[[str], str]) -> Path:
    """Change one file, and the manifest's hash of it, as somebody would who knows the format."""
    from hashlib import sha256

    with zipfile.ZipFile(path) as old:
        files = {n: old.read(n).decode("utf-8") for n in old.namelist()}
    assert files[name] != change(files[name])
    files[name] = change(files[name])
    if name != "manifest.json":
        manifest = json.loads(files["manifest.json"])
        manifest["sha256"][name] = sha256(files[name].encode()).hexdigest()
        files["manifest.json"] = json.dumps(manifest)
    with zipfile.ZipFile(out, "w") as new:
        for n, text in files.items():
            new.writestr(n, text)
    return out


FORGERIES: dict[str, tuple[str, Callable[[str], str], str]] = {
    "a body": ("receipts.jsonl", lambda t: t.replace("李雷", "王五"), "receipt 3"),
    "a receipt left out": ("receipts.jsonl", lambda t: t.split("\n", 1)[1], "hold all of them"),
    "a link": ("chain.txt", lambda t: "0" * 64 + t[64:], "receipt 2"),
    "a link left out": ("chain.txt", lambda t: t[65:], "receipt"),
    "the end": ("manifest.json", lambda t: t.replace('"head": {', '"head": {"x": 1,')
                .replace('"number": 6', '"number": 7'), "end that the manifest"),
    "a hash": ("manifest.json", lambda t: t.replace('"pushes.jsonl": "', '"pushes.jsonl": "0'),
               "pushes.jsonl"),
    "no manifest": ("manifest.json", lambda _: "{}", "not a dossier"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forgery_is_found(lived: Service, tmp_path: Path, what: str) -> None:
    name, change, fault = FORGERIES[what]
    path = made(lived.store, tmp_path / "a.zip", phone=PHONE)
    with pytest.raises(DossierFault, match=fault):
        check(forged(path, tmp_path / "b.zip", name, change))


def test_half_a_file_is_a_sentence(lived: Service, tmp_path: Path) -> None:
    path = made(lived.store, tmp_path / "a.zip", phone=PHONE)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DossierFault, match="not a whole ZIP file"):
        check(path)


def test_receipts_from_before_digests_still_hold(lived: Service, tmp_path: Path) -> None:
    """0005: what the old chain bound stays bound; links of others are then given by their hashes."""
    with lived.store.write() as connection:
        rows = connection.execute(sa.select(tables.receipts).order_by(tables.receipts.c.seq)).all()
        previous = "0" * 64
        for row in rows[:4]:
            following = receipts.chained(previous, row.body)
            old = {"prev_hash": previous, "hash": following}
            connection.execute(
                tables.receipts.update().where(tables.receipts.c.seq == row.seq).values(old)
            )
            previous = following
        connection.execute(tables.receipts.delete().where(tables.receipts.c.seq > 4))
        connection.execute(tables.chain.update().values(seq=4, hash=previous, plain_until=4))
    exchange.add(lived.store, "default", PHONE, "all", "李雷", "来电")
    with lived.store.read() as connection:
        assert receipts.verify(connection).holds
    path = made(lived.store, tmp_path / "a.zip", phone=PHONE)
    assert (check(path).receipts, check(path).on_trust) == (4, 1)
    with pytest.raises(DossierFault, match="receipt"):
        check(forged(path, tmp_path / "b.zip", "receipts.jsonl", lambda t: t.replace("李雷", "王")))


def test_the_commands_make_and_check_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINGXIN_HOME", str(tmp_path / "home"))

    def tingxin(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments)

    who = ("--actor", "韩梅梅", "--reason", "举报 12345")
    tingxin("suppress", "add", "13800000001", *who)
    out = str(tmp_path / "a.zip")
    assert "receipts 1" in tingxin("receipts", "export", out, "--phone", "13800000001", *who).output
    assert (tmp_path / "a.zip").stat().st_mode & 0o077 == 0
    again = tingxin("receipts", "export", out, "--phone", "13800000001", *who)
    assert again.exit_code == 2
    monkeypatch.setenv("TINGXIN_HOME", "/nowhere")  # it needs no database
    assert "the dossier holds, 1 receipts" in tingxin("receipts", "verify", out).output
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert tingxin("receipts", "verify", out).exit_code == 1


def test_the_route_gives_a_dossier_to_an_admin(
    settings: Settings, classifier: Any, tmp_path: Path
) -> None:
    store = Store.open(settings)
    with store.write() as connection:
        key = auth.create(connection, "a", ["admin"])
    exchange.add(store, "default", PHONE, "marketing", "李雷", "来电")
    store.close()
    with TestClient(create_app(settings, classifier), headers={"x-api-key": key}) as client:
        answer = client.post("/v1/receipts/export", json=WHO | {"phone": "13800000001"})
        assert answer.headers["content-type"] == "application/zip"
        (tmp_path / "a.zip").write_bytes(answer.content)
        assert check(tmp_path / "a.zip").receipts == 1
        for asked, status in (
            ({"phone": "13800000009"}, 404),
            ({"phone": "x"}, 422),
            ({}, 422),
            ({"phone": "13800000001", "reason": " "}, 422),
        ):
            assert client.post("/v1/receipts/export", json=WHO | asked).status_code == status

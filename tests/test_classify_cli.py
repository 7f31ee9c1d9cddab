import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tingxin import app

ROOT = Path(__file__).parents[1]
KEYS = {
    "labels",
    "scores",
    "action",
    "queue",
    "priority",
    "due",
    "scope",
    "reason",
    "span",
    "spans",
}


def run(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "tingxin", "classify", *arguments],
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        check=False,
    )


def read(raw: bytes) -> list[dict]:
    return [json.loads(line) for line in raw.decode("utf-8").splitlines()]


def test_three_lines_give_three_rows():
    done = run("-", stdin="T\n别再发了\nT恤还有货吗\n".encode())
    assert [row["labels"] for row in read(done.stdout)] == [["opt_out"], ["opt_out"], []]
    assert done.returncode == 0


def test_rows_keep_their_order_and_unknown_fields(tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"id": k, "text": f"第{k}次了,别发" if k % 3 else "", "x": {"y": k}} for k in range(2500)
    ]
    path.write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8"
    )
    done = run(str(path), "-o", str(out))
    assert done.returncode == 0, done.stderr
    found = read(out.read_bytes())
    assert [{k: r[k] for k in ("id", "text", "x")} for r in found] == rows
    assert all(set(r) >= KEYS for r in found)


def test_a_csv_keeps_its_columns(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("手机号,内容\n13800001001,退订\n13800001002,好的\n", encoding="utf-8-sig")
    rows = read(run(str(path)).stdout)
    assert [(r["手机号"], r["内容"], r["action"]) for r in rows] == [
        ("13800001001", "退订", "suppress"),
        ("13800001002", "好的", "none"),
    ]


def test_a_bad_row_stops_with_file_line_and_remedy_after_what_stood_before_it(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"T\n" + "退订\n".encode("gb18030") + b"T\n")
    done = run(str(path))
    assert done.returncode == 1
    assert len(read(done.stdout)) == 1
    message = done.stderr.decode("utf-8")
    assert f"{path}:2:" in message
    assert "--encoding gb18030" in message
    assert "--keep-going" in message


def test_keep_going_carries_bad_rows_through(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "T"}\n{"text": 3, "id": 9}\nnonsense\n{"text": "T"}\n')
    done = run(str(path), "--keep-going")
    rows = read(done.stdout)
    assert done.returncode == 0
    assert ["error" in r for r in rows] == [False, True, True, False]
    assert rows[1]["id"] == 9
    assert f"{path}:3" in rows[2]["error"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["no-such-file"], "no-such-file: No such file"),
        ([str(ROOT / "README.md"), "--bundle", "nowhere"], "nowhere: no manifest.json"),
        ([str(ROOT / "README.md"), "--encoding", "klingon"], "encoding 'klingon' is unknown"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(arguments, fault):
    done = run(*arguments)
    assert done.returncode == 1
    message = done.stderr.decode("utf-8")
    assert fault in message
    assert "Traceback" not in message


def test_the_output_never_overwrites_the_input(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("T\n", encoding="utf-8")
    assert run(str(path), "-o", str(path)).returncode == 1
    assert path.read_text(encoding="utf-8") == "T\n"


def test_the_samples_come_out_as_they_went_in():
    replies = ROOT / "data" / "sample" / "platform_replies.csv"
    callback = ROOT / "data" / "sample" / "aliyun_callback.json"
    given = [len(replies.read_text(encoding="utf-8-sig").splitlines()) - 1]
    given.append(len(json.loads(callback.read_text(encoding="utf-8"))))
    for path, count in zip((replies, callback), given, strict=True):
        rows = read(run(str(path)).stdout)
        assert len(rows) == count
        assert all(set(r) >= KEYS for r in rows)


def test_real_messages_come_out_as_they_went_in():
    path = ROOT.parent / "shared" / "real_dev.jsonl"
    if not path.is_file():
        pytest.skip("real_dev.jsonl is not beside this checkout")
    rows = read(run(str(path)).stdout)
    given = read(path.read_bytes())
    assert [r["text"] for r in rows] == [g["text"] for g in given]
    assert all(set(r) >= KEYS | {"source"} for r in rows)


def test_the_help_is_chinese_first():
    result = CliRunner().invoke(app, ["classify", "--help"])
    assert result.exit_code == 0
    assert "读懂回复" in result.stdout

"""An archive comes out with its rows, their order and their fields, whatever its format and whoever reads it."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from model.archives import PREDICTED
from tingxin import app

pa = pytest.importorskip("pyarrow", reason="pip install 'tingxin[batch]'")
pq = pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).parents[1]
TEXTS = ("退订", "别再发了", "", "收到,谢谢", "我没借过你们的钱", "T恤还有货吗")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["batch", *map(str, arguments)])


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"id": k, "内容": f"{TEXTS[k % 6]}{k // 6 or ''}", "渠道": f"c{k}"} for k in range(count)
    ]


def write_jsonl(path: Path, given: list[dict[str, Any]]) -> Path:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in given)
    path.write_text(lines, encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def classified(path: Path, *arguments: str) -> list[dict[str, Any]]:
    """What `tingxin classify` says of it."""
    out = path.with_suffix(".classified")
    done = CliRunner().invoke(app, ["classify", str(path), "-o", str(out), *arguments])
    assert done.exit_code == 0, done.output
    return read_jsonl(out)


def test_jsonl_comes_out_as_classify_writes_it(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", rows(60))
    done = run(source, tmp_path / "out.jsonl")
    assert done.exit_code == 0, done.output
    assert read_jsonl(tmp_path / "out.jsonl") == classified(source)


def test_csv_keeps_its_columns_and_says_the_same(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "内容", "渠道"])
        writer.writeheader()
        writer.writerows([*rows(60), {"id": "007", "内容": "别再发了\n谢谢", "渠道": 'a,"b"'}])
    assert run(source, tmp_path / "out.csv").exit_code == 0
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    expected = classified(source)
    assert list(found[0]) == ["id", "内容", "渠道", *PREDICTED, "error"]
    assert (found[-1]["id"], found[-1]["渠道"]) == ("007", 'a,"b"')
    for row, wanted in zip(found, expected, strict=True):
        assert [row["id"], row["内容"]] == [wanted["id"], wanted["内容"]]
        assert row["action"] == wanted["action"]
        assert [json.loads(row[n]) for n in ("labels", "scores", "spans")] == [
            wanted[n] for n in ("labels", "scores", "spans")
        ]


def test_parquet_keeps_columns_and_types_and_says_the_same(tmp_path: Path) -> None:
    given = rows(60)
    table = pa.table(
        {
            "内容": [row["内容"] for row in given],
            "at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 60, pa.timestamp("ns", "UTC")),
            "amount": pa.array([Decimal("1.50")] * 60, pa.decimal128(9, 2)),
            "nested": [{"a": [k], "b": None} for k in range(60)],
            "渠道": pa.array([f"c{k % 3}" for k in range(60)]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=7)
    assert run(tmp_path / "in.parquet", tmp_path / "out.parquet").exit_code == 0
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(table.column_names).cast(table.schema).equals(table)
    expected = classified(write_jsonl(tmp_path / "in.jsonl", given))
    for row, wanted in zip(found.to_pylist(), expected, strict=True):
        row |= {"scores": dict(row["scores"]), "spans": dict(row["spans"])}
        assert {n: row[n] for n in PREDICTED} == {n: wanted[n] for n in PREDICTED}
        assert row["error"] is None


def test_parquet_may_come_out_as_jsonl_and_an_empty_one_keeps_its_columns(tmp_path: Path) -> None:
    table = pa.table({"text": ["T"], "at": [datetime(2026, 1, 1, tzinfo=UTC)]})
    pq.write_table(table, tmp_path / "in.parquet")
    assert run(tmp_path / "in.parquet", tmp_path / "out.jsonl").exit_code == 0
    [row] = read_jsonl(tmp_path / "out.jsonl")
    assert (row["at"][:10], row["action"]) == ("2026-01-01", "suppress")
    pq.write_table(table.slice(0, 0), tmp_path / "none.parquet")
    assert run(tmp_path / "none.parquet", tmp_path / "none_out.parquet").exit_code == 0
    found = pq.read_table(tmp_path / "none_out.parquet")
    assert (found.num_rows, found.column_names[:3]) == (0, ["text", "at", "labels"])


def test_faulty_rows_come_out_with_their_error(tmp_path: Path) -> None:
    table = pa.table({"text": ["T", None, "啊" * 20_001, "T"], "id": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "in.parquet")
    done = run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert (done.exit_code, "2 rows with an error" in done.output) == (0, True)
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["id"] for row in found] == [1, 2, 3, 4]
    assert [row["action"] for row in found] == ["suppress", None, None, "suppress"]
    assert found[1]["error"] == f"{tmp_path / 'in.parquet'}:2: the text is null, not a string"
    (tmp_path / "in.jsonl").write_text('{"text": "T"}\nnonsense\n{"text": 3, "id": 9}\n', "utf-8")
    assert run(tmp_path / "in.jsonl", tmp_path / "out.jsonl").exit_code == 0
    assert read_jsonl(tmp_path / "out.jsonl") == classified(tmp_path / "in.jsonl", "--keep-going")


def test_a_folder_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", rows(3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jsonl").write_text("done before", encoding="utf-8")
    (tmp_path / "out" / ".b.jsonl.draft").write_text("cut off", encoding="utf-8")
    assert run(tmp_path / "in", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "a.jsonl").read_text(encoding="utf-8") == "done before"
    assert len(read_jsonl(tmp_path / "out" / "b.jsonl")) == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.jsonl", "b.jsonl"]


def test_what_cannot_work_is_said_in_a_line_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", rows(1))
    sheet = tmp_path / "in.csv"
    sheet.write_text("a,b\n1,2\n", encoding="utf-8")
    (tmp_path / "no.parquet").write_text("nonsense", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out.csv"
    for arguments, fault in [
        ((tmp_path / "nowhere.csv", out), "nowhere.csv: No such file"),
        ((source, out), "must be .jsonl as the input is"),
        ((sheet, out), "no text column; found 'a', 'b'"),
        ((source, source), "would overwrite the input"),
        ((tmp_path / "no.parquet", tmp_path / "out.parquet"), "not a Parquet file"),
        ((tmp_path / "empty", tmp_path / "out"), "holds none of .parquet"),
        ((source, tmp_path / "out.jsonl", "--bundle", tmp_path), "no manifest.json"),
    ]:
        done = run(*arguments)
        assert (done.exit_code, fault in done.output) == (1, True), done.output
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="pip install 'tingxin[batch]'")
def test_ray_says_the_same_in_the_same_order(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [*rows(1500), {"id": -1}])
    assert run(source, tmp_path / "here.jsonl", "--no-ray").exit_code == 0
    # In a process of its own: Ray's threads and handlers are none of the other tests' business.
    command = [sys.executable, "-m", "tingxin", "batch", source, tmp_path / "ray.jsonl", "--ray"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr.decode("utf-8")
    assert read_jsonl(tmp_path / "ray.jsonl") == read_jsonl(tmp_path / "here.jsonl")

import json
import logging
from pathlib import Path

import pytest
from transformers import AutoModel

from model.labels import Schema
from training.config import Recipe
from training.dataset import DatasetError
from training.intermediate import labelled_lines, line_key, read_labels, school
from training.pretrain import PretrainConfig, pretrain

SCHEMA = Schema.read(Path(__file__).parents[1] / "data" / "labels.toml")
SHIPPED = Path(__file__).parents[1] / "data" / "corpora_labels.tsv"
LINES = ["还了还显示没还", "今天天气不错", "实在还不上了怎么办", "别再给我发了"] * 8
TINY = PretrainConfig(
    hidden=16, layers=1, heads=2, max_length=64, chunk=32, min_count=1, tokens=512, epochs=1
)


def write_table(path: Path, records: dict[str, str]) -> Path:
    lines = [f"{line_key(text)}\t{labels}" for text, labels in records.items()]
    path.write_text("\n".join(["line\tlabels", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "text"
    path.mkdir()
    (path / "a.txt").write_text("\n".join(LINES), encoding="utf-8")
    return path


def test_a_labelled_line_is_found_once_by_its_hash(folder, tmp_path):
    table = write_table(
        tmp_path / "t.tsv",
        {"还了还显示没还": "dispute", "今天天气不错": "-", "别处的一行": "abuse"},
    )
    rows = labelled_lines(folder, table, SCHEMA)
    assert [(r.text, r.labels) for r in rows] == [
        ("还了还显示没还", ("dispute",)),
        ("今天天气不错", ()),
    ]


def test_an_unknown_label_is_refused_with_its_place(tmp_path):
    table = write_table(tmp_path / "t.tsv", {"今天天气不错": "disputed"})
    with pytest.raises(DatasetError, match=r"t\.tsv:2.*dispute"):
        read_labels(table, SCHEMA)


def test_the_shipped_table_reads_and_holds_no_text():
    labels = read_labels(SHIPPED, SCHEMA)
    assert len(labels) > 10_000
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in labels)


def test_labelled_lines_change_the_encoder_and_are_on_its_record(folder, tmp_path):
    out = tmp_path / "encoder"
    pretrain(folder, out, TINY)
    before = AutoModel.from_pretrained(out).state_dict()
    table = write_table(tmp_path / "t.tsv", {"还了还显示没还": "dispute", "今天天气不错": "-"})
    assert school(folder, table, out, out, SCHEMA, Recipe.read()) == 2
    after = AutoModel.from_pretrained(out).state_dict()
    assert any((before[k] != after[k]).any() for k in before)
    assert json.loads((out / "pretraining.json").read_text())["intermediate"]["lines"] == 2


def test_a_folder_without_labelled_lines_leaves_the_encoder_and_says_so(folder, tmp_path, caplog):
    table = write_table(tmp_path / "t.tsv", {"别处的一行": "abuse"})
    with caplog.at_level(logging.WARNING):
        assert school(folder, table, tmp_path / "none", tmp_path, SCHEMA, Recipe.read()) == 0
    assert "none of the lines" in caplog.text

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from model.labels import Schema
from training.config import HEAD, Recipe
from training.dataset import DatasetError
from training.finetune import Trained, load_base, load_head
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


@pytest.fixture
def schooled(folder, tmp_path):
    encoder, out = tmp_path / "masked", tmp_path / "schooled"
    pretrain(folder, encoder, TINY)
    table = write_table(tmp_path / "t.tsv", {"还了还显示没还": "dispute", "今天天气不错": "-"})
    lines = labelled_lines(folder, table, SCHEMA)
    recipe = Recipe(epochs=30, consistency=0.0, label_smoothing=0.0, averaging=0.0, folds=0)
    school(lines, [], encoder, out, SCHEMA, replace(recipe, learning_rate=5e-3))
    return encoder, out


def test_an_encoder_that_learned_labels_says_so_and_reads_them_at_once(schooled):
    encoder, out = schooled
    before, after = (AutoModel.from_pretrained(f).state_dict() for f in schooled)
    assert any((before[k] != after[k]).any() for k in before)
    assert json.loads((out / "pretraining.json").read_text())["labels"]["lines"] == 2
    network, tokenizer, pad = load_base(str(out), len(SCHEMA.names), 0.0)
    assert load_head(network, SCHEMA.names, out) == len(SCHEMA.names)
    read = Trained(network.eval(), tokenizer, pad, 64, ())
    contested, fine = read.logits(["还了还显示没还", "今天天气不错"])[:, SCHEMA.index("dispute")]
    assert contested > fine
    assert load_head(network, SCHEMA.names, encoder) == 0


def test_labels_are_known_by_name_not_by_place(schooled):
    network, _, _ = load_base(str(schooled[1]), 2, 0.0)
    fresh = network.reading.weight[1].clone()
    assert load_head(network, ["dispute", "wants_human"], schooled[1]) == 1
    assert torch.equal(network.reading.weight[1], fresh)


def test_a_new_schooling_of_the_body_takes_the_old_head_away(folder, schooled):
    assert (schooled[1] / HEAD).is_file()
    pretrain(folder, schooled[1], TINY)
    assert not (schooled[1] / HEAD).exists()

import json
from pathlib import Path

import pytest
from datasets import load_from_disk

from model.labels import Schema
from model.text import normalise
from training import dataset
from training.dataset import DatasetError, Row, near_duplicates, split_of

DATA = Path(__file__).parents[1] / "data"
SCHEMA = Schema.read(DATA / "labels.toml")


def row(**changes) -> str:
    fields = {
        "id": "a-1",
        "text": "别再发了",
        "labels": ["opt_out"],
        "source": "written:a",
        "family": "a/x",
    }
    return json.dumps(fields | changes, ensure_ascii=False)


@pytest.fixture
def corpus(tmp_path: Path):
    def write(*lines: str) -> Path:
        (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "not JSON"),
        ("[]", "lacks family"),
        ('{"id": "a-1"}', "lacks family, labels, source, text"),
        (row(labels=["opt-out"]), "label 'opt-out' is unknown; did you mean 'opt_out'\\?"),
        (row(labels="opt_out"), "labels is a list"),
        (row(labels=["abuse", "abuse"]), "labels is a list of different names"),
        (row(text=" "), "text is blank"),
        (row(id=3), "id is blank or no text; found int"),
        (row(split="dev"), "split 'dev' is unknown"),
    ],
)
def test_a_faulty_row_is_refused_with_file_line_and_remedy(corpus, line, fault):
    with pytest.raises(DatasetError, match=rf"a\.jsonl:2: .*{fault}"):
        dataset.read(corpus(row(), line), SCHEMA)


def test_one_text_stands_once_however_it_is_typed(corpus):
    with pytest.raises(DatasetError, match=r"a\.jsonl:2: the text stands at .*a\.jsonl:1 too"):
        dataset.read(corpus(row(), row(id="a-2", text="別 再發了")), SCHEMA)


def test_one_text_with_two_label_sets_is_a_contradiction(corpus):
    with pytest.raises(DatasetError, match="with other labels; keep one"):
        dataset.read(corpus(row(), row(id="a-2", labels=[])), SCHEMA)


def test_an_id_stands_once(corpus):
    with pytest.raises(DatasetError, match="id 'a-1' stands at"):
        dataset.read(corpus(row(), row(text="滚")), SCHEMA)


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(row().encode("gb18030"))
    with pytest.raises(DatasetError, match=r"a\.jsonl: not UTF-8"):
        dataset.read(tmp_path, SCHEMA)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no \*\.jsonl"):
        dataset.read(tmp_path, SCHEMA)


def test_splits_have_about_their_shares():
    counts = {"train": 0, "validation": 0, "test": 0}
    for k in range(5000):
        counts[split_of(f"family-{k}")] += 1
    assert counts["train"] / 5000 == pytest.approx(0.8, abs=0.02)
    assert counts["test"] / 5000 == pytest.approx(0.1, abs=0.02)


def test_near_duplicates_across_families_are_found_and_within_one_are_not():
    text = "我上个月已经把钱还清了你们怎么还在催我"
    rows = [
        Row(str(k), t, (), "s", family, "train")
        for k, (t, family) in enumerate(
            [(text, "a"), (text + "啊", "b"), (text + "呀", "a"), ("今天天气很好我们去公园吧", "c")]
        )
    ]
    assert {(a.id, b.id) for a, b, _ in near_duplicates(rows)} == {("0", "1"), ("1", "2")}


def test_the_export_opens_as_a_dataset(corpus, tmp_path):
    rows = dataset.read(
        corpus(row(split="train"), row(id="b", text="好的", labels=[], split="test")), SCHEMA
    )
    dataset.export(rows, tmp_path / "out")
    found = load_from_disk(str(tmp_path / "out"))
    assert found["train"]["text"][0] == "别再发了"
    assert found["test"].num_rows == 1


class TestShippedCorpus:
    """What the corpus promises in data/README.md."""

    rows = dataset.read(DATA / "corpus", SCHEMA)

    def test_has_three_thousand_messages_about_half_without_an_intent(self):
        assert len(self.rows) >= 3000
        plain = sum(not set(r.labels) & set(SCHEMA.intents) for r in self.rows)
        assert 0.4 <= plain / len(self.rows) <= 0.65

    def test_cuts_no_family(self):
        splits: dict[str, set[str]] = {}
        for r in self.rows:
            splits.setdefault(r.family, set()).add(r.split)
        assert all(len(s) == 1 for s in splits.values())

    def test_leaks_no_near_duplicate_into_another_split(self):
        assert not [(a.id, b.id) for a, b, _ in near_duplicates(self.rows) if a.split != b.split]

    def test_holds_every_label_in_every_split(self):
        for split in ("train", "validation", "test"):
            present = {name for r in self.rows if r.split == split for name in r.labels}
            assert present == set(SCHEMA.names)

    def test_holds_nobodys_number(self):
        for r in self.rows:
            digits = [c for c in normalise(r.text).text if c == "0"]
            assert len(digits) < 40, r.id

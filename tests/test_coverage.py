from pathlib import Path

import pytest

from model.labels import Schema
from training.coverage import Background, markdown, read_families, tables
from training.dataset import DatasetError, Row

SCHEMA = Schema.read(Path(__file__).parents[1] / "data" / "labels.toml")
HEADER = "family\tindustry\tage\tspeech\tregister\n"


def row(text: str, *labels: str) -> Row:
    return Row(text, text, labels, "test", "f/one", "train")


ROWS = [
    row("T", "opt_out"),
    row("別再發簡訊給我了", "opt_out"),
    row("ok 👌"),
    row("没钱 真的 还不起", "hardship"),
]
FAMILIES = {"f/one": Background("telecom", "elder", "taiwan", "plain")}


def test_labels_are_counted_by_background_and_by_form():
    found = dict(tables(ROWS, FAMILIES, SCHEMA))
    assert found["industry"]["telecom"]["messages"] == 4
    assert found["industry"]["telecom"]["opt_out"] == 2
    assert found["speech"]["taiwan"]["no intent"] == 1
    forms = {name: counts["messages"] for name, counts in found["form"].items()}
    assert forms["1–3 characters"] == 1
    assert forms["traditional characters"] == 1
    assert forms["emoji"] == 1
    assert forms["blanks for commas"] == 1
    assert forms["Latin letters only"] == 1
    assert forms["60–200"] == 0


def test_a_family_without_background_is_named():
    with pytest.raises(DatasetError, match="lacks 1 families, the first 'f/one'"):
        list(markdown(ROWS, {}, SCHEMA))


def test_the_table_of_families_is_read_or_its_fault_is_placed(tmp_path):
    path = tmp_path / "families.tsv"
    path.write_text(HEADER + "f/one\ttelecom\telder\ttaiwan\tplain\n", encoding="utf-8")
    assert read_families(path) == FAMILIES
    path.write_text(HEADER + "f/one\ttelecom\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"families\.tsv:2: a family has 5 filled columns"):
        read_families(path)
    path.write_text("family\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"families\.tsv:1: the columns are"):
        read_families(path)

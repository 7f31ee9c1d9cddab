from pathlib import Path

import pytest

from model.labels import LabelError, Schema

DATA = Path(__file__).parents[1] / "data"


def test_the_schema_has_four_intents_and_nine_tags():
    schema = Schema.read(DATA / "labels.toml")
    assert schema.intents == ("opt_out", "dispute", "hardship", "abuse")
    assert len(schema.names) == 13


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "no \\[\\[label\\]\\]"),
        ('[[label]]\nname = "a"\n', "needs name, group, zh, en"),
        ('[[label]]\nname="a"\ngroup="x"\nzh="a"\nen="a"\n', "'intent' or 'tag'"),
        ('[[label]]\nname="a"\ngroup="tag"\nzh="a"\nen="a"\n' * 2, "stands twice"),
    ],
)
def test_a_faulty_schema_is_refused(tmp_path, content, fault):
    path = tmp_path / "labels.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LabelError, match=fault):
        Schema.read(path)

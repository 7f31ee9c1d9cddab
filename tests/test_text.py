import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text import Folds, normalise


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("ＴＤ", "td"),
        ("退 訂", "退订"),
        ("t u i d i n g", "tuiding"),
        ("please stop texting me", "please stop texting me"),
        ("别\u200b再\ufeff发", "别再发"),
        ("好好好好好好好", "好好好"),
        ("13800001234", "00000000000"),
        ("0000", "0000"),
        ("👍🏻ok", "👍🏻ok"),
        ("\u0000\u0007", ""),
        ("   ", ""),
    ],
)
def test_normalise_reads_what_was_meant(typed, read):
    assert normalise(typed).text == read


@given(st.text(max_size=60))
def test_every_character_of_a_normalised_text_comes_from_the_original(text):
    normalised = normalise(text)
    assert len(normalised.text) == len(normalised.offsets)
    assert list(normalised.offsets) == sorted(normalised.offsets)
    assert all(0 <= i < len(text) for i in normalised.offsets)
    if normalised.text:
        start, end = normalised.span(0, len(normalised.text))
        assert 0 <= start < end <= len(text)


@given(st.text(alphabet=string.ascii_letters + "退订了不 ，。1", max_size=40))
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(text).text
    assert normalise(once).text == once


def test_a_span_covers_what_was_typed_between():
    normalised = normalise("你好, 退 \u200b訂 谢谢")
    start = normalised.text.index("退订")
    assert normalised.span(start, start + 2) == (4, 8)


def test_an_empty_stretch_has_an_empty_span():
    assert normalise("x").span(1, 1) == (0, 0)


@pytest.mark.parametrize(
    ("content", "fault"),
    [("腿\t退\n", "expected"), ("腿\t退\tx\n腿\t退\tx\n", "twice"), ("\t退\tx\n", "expected")],
)
def test_a_faulty_fold_table_is_refused_with_its_line(tmp_path: Path, content, fault):
    path = tmp_path / "folds.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"folds\.tsv:\d: .*{fault}"):
        Folds.read(path)

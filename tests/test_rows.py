import io
import itertools
import json

import pytest

from model.rows import UnreadableInput, read_rows


def rows(content: bytes | str, **options):
    raw = content.encode() if isinstance(content, str) else content
    return list(read_rows(io.BytesIO(raw), **options))


def test_plain_lines_keep_blank_ones():
    assert [r.text for r in rows("T\n\n别再发了")] == ["T", "", "别再发了"]


def test_json_rows_keep_all_fields():
    (row,) = rows('{"id": 7, "内容": "退订", "x": [1]}\n')
    assert row.text == "退订"
    assert row.fields == {"id": 7, "内容": "退订", "x": [1]}


def test_a_json_array_is_read_entry_by_entry():
    found = rows('[\n {"content": "退订", "id": 1},\n {"id": 2}, {"content": "好的"}]\n')
    assert [(r.line, r.text) for r in found] == [(1, "退订"), (2, ""), (3, "好的")]
    assert "no text column" in (found[1].fault or "")
    with pytest.raises(UnreadableInput, match="not a JSON array"):
        rows('[{"content": "退订"}')


def test_a_message_in_square_brackets_is_a_message():
    assert [r.text for r in rows("[图片]\n[链接]\n")] == ["[图片]", "[链接]"]


def test_csv_columns_stand_in_any_order_and_fields_may_hold_line_breaks():
    found = rows('手机号,内容\n138,"第一行\n第二行"\n139,T\n')
    assert [(r.line, r.text) for r in found] == [(2, "第一行\n第二行"), (4, "T")]


def test_a_byte_order_mark_is_no_part_of_the_header():
    assert [r.text for r in rows("\ufeff内容,时间\nT,1\n")] == ["T"]


def test_excels_unicode_text_is_read():
    assert [r.text for r in rows("内容,时间\r\n退订,1\r\n".encode("utf-16"))] == ["退订"]


def test_the_text_column_may_be_named():
    assert rows("a,b\nx,T\n", format="csv", text="b")[0].text == "T"


@pytest.mark.parametrize(
    ("content", "options", "fault"),
    [
        ("a,b\nx,T\n", {"format": "csv"}, "no text column; found 'a', 'b'; name it with --text"),
        ("a,b\nx,T\n", {"format": "csv", "text": "c"}, "no column 'c'"),
        ("text,text\nx,T\n", {"format": "csv"}, "twice"),
        ("T\n", {"encoding": "klingon"}, "unknown"),
    ],
)
def test_an_input_without_rows_is_refused(content, options, fault):
    with pytest.raises(UnreadableInput, match=fault):
        rows(content, **options)


@pytest.mark.parametrize(
    ("bad", "options", "fault"),
    [
        (b"\xff\xfa\x00", {}, "name its encoding"),
        ("退订".encode("gb18030"), {}, "pass --encoding gb18030"),
        (b"a\x00b", {}, "NUL"),
        ("长".encode() * 100_000, {}, "100,000 characters"),
        (b"{broken", {"format": "jsonl"}, "not JSON"),
        (b"[1]", {"format": "jsonl"}, "a JSON list"),
        (b'{"id": 1}', {"format": "jsonl"}, "no text column"),
        (b'{"text": null}', {"format": "jsonl"}, "NoneType"),
        (b'{"text": "\\ud83d"}', {"format": "jsonl"}, "surrogate"),
        (b"[" * 100_000, {"format": "jsonl"}, "not JSON"),
    ],
)
def test_a_bad_line_is_named_and_its_neighbours_are_read(bad, options, fault):
    good = b'{"text": "T"}' if options else b"T"
    found = rows(good + b"\n" + bad + b"\n" + good + b"\n", **options)
    assert [r.text for r in found] == ["T", "", "T"]
    assert [r.line for r in found] == [1, 2, 3]
    assert found[1].fault is not None
    assert fault in found[1].fault
    assert found[0].fault is None
    assert found[2].fault is None


def test_a_csv_row_with_too_many_fields_is_named():
    found = rows("内容,时间\nT,1,2\n退订,3\n")
    assert "3 fields, but the header has 2" in (found[0].fault or "")
    assert found[1].text == "退订"


def test_a_gbk_csv_is_refused_with_the_remedy_and_read_with_it():
    raw = "内容,时间\n退订,1\n".encode("gb18030")
    assert [r.text for r in rows(raw, encoding="gb18030")] == ["退订"]
    with pytest.raises(UnreadableInput, match="gb18030"):
        rows(raw, format="csv")


def test_rows_are_read_one_at_a_time():
    endless = itertools.count()

    class Endless(io.RawIOBase):
        def readline(self, size=-1):
            return json.dumps({"text": f"第{next(endless)}条"}).encode() + b"\n"

    reader = read_rows(Endless())
    assert [next(reader).text for _ in range(3)] == ["第0条", "第1条", "第2条"]
    assert next(endless) < 10


def test_a_line_without_an_end_does_not_fill_the_memory():
    found = rows(b"T\n" + b"x" * (5 << 20) + b"\nT\n")
    assert [r.text for r in found] == ["T", "", "T"]
    assert "MiB" in (found[1].fault or "")

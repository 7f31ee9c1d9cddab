"""Read rows that hold a message, from JSONL, CSV or plain lines, one at a time and in constant memory.

A JSON array, as vendors post it, is read too, whole.

Each row comes with its line number; a row that cannot be read comes with its fault instead, and the reading
goes on behind it. What others export is not always what it says: Excel's GBK and byte-order marks, NULs, half
a JSON object. Every fault names the line, what was found, and the remedy.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, Literal

from model.text import MAX_CHARACTERS

Format = Literal["auto", "jsonl", "json", "csv", "lines"]
TEXT_COLUMNS = (
    *("text", "内容", "content", "短信内容", "回复内容", "消息内容", "投诉内容"),
    *("消息", "文本", "message", "body", "reply"),
)
LONGEST_LINE = 4 * 1024 * 1024  # bytes; a line beyond it is no row, and must not fill the memory
BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


class UnreadableInput(ValueError):
    """The input as a whole cannot be read: no text column, an unknown encoding."""


@dataclass(frozen=True, slots=True)
class InputRow:
    """One row: its line, the text to read, all its fields, and the fault that makes it unreadable, if any."""

    line: int
    text: str
    fields: dict[str, Any]
    fault: str | None = None


class _Fault(ValueError):
    """A row's fault, with the fields that could be saved."""

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.fields = fields


def read_rows(
    stream: BinaryIO, format: Format = "auto", text: str | None = None, encoding: str = "utf-8"
) -> Iterator[InputRow]:
    """Yield the rows of a binary stream, in order, faulty ones included.

    `text` names the column or key that holds the message; by default one of TEXT_COLUMNS. `encoding` is what a file
    without a byte-order mark is in. Raises UnreadableInput where no row can be read at all.

    >>> import io
    >>> [row.text for row in read_rows(io.BytesIO("序号,内容\\n1,别再发了\\n".encode()))]
    ['别再发了']
    """
    try:
        lines = _decoded(stream, encoding)
        first = next(lines, None)
    except LookupError:
        raise UnreadableInput(f"encoding {encoding!r} is unknown; try utf-8 or gb18030") from None
    if first is None:
        return
    lines = chain([first], lines)
    match _sniff(first[1]) if format == "auto" else format:
        case "jsonl":
            yield from _json_rows(lines, text)
        case "json":
            yield from _array_rows(lines, text)
        case "csv":
            yield from _csv_rows(lines, text)
        case _:
            yield from _plain_rows(lines)


Line = tuple[int, str, str | None]  # number, characters without the line end, fault


def _decoded(stream: BinaryIO, encoding: str) -> Iterator[Line]:
    "".encode(encoding)  # an unknown name raises LookupError before anything is read
    first = stream.readline(LONGEST_LINE)
    for bom, name in BOMS:
        if first.startswith(bom):
            first, encoding = first[len(bom) :], name
            break
    if encoding.startswith("utf-16"):
        yield from _utf16_lines(first, stream, encoding)
        return
    number = 0
    raw = first
    while raw:
        number += 1
        if len(raw) >= LONGEST_LINE and not raw.endswith(b"\n"):
            while (more := stream.readline(LONGEST_LINE)) and not more.endswith(b"\n"):
                pass
            yield number, "", f"longer than {LONGEST_LINE >> 20} MiB; is this one file of lines?"
        else:
            yield number, *_decode(raw, encoding)
        raw = stream.readline(LONGEST_LINE)


def _utf16_lines(first: bytes, stream: BinaryIO, encoding: str) -> Iterator[Line]:
    """Excel's "Unicode text": rare and small enough to be decoded whole."""
    text = (first + stream.read()).decode(encoding, errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        yield number, *_checked(line)


def _decode(raw: bytes, encoding: str) -> tuple[str, str | None]:
    raw = raw.rstrip(b"\r\n")
    try:
        return _checked(raw.decode(encoding))
    except UnicodeDecodeError:
        pass
    saved = raw.decode(encoding, errors="replace")
    try:
        raw.decode("gb18030")
        return saved, f"not {encoding.upper()}, but it reads as GBK: pass --encoding gb18030"
    except UnicodeDecodeError:
        return saved, f"not {encoding.upper()}; name its encoding with --encoding"


def _checked(line: str) -> tuple[str, str | None]:
    if "\0" in line:
        return line.replace("\0", "\ufffd"), "holds a NUL character; is this a text file?"
    return line, None


def _sniff(first: str) -> Format:
    if first.lstrip().startswith("{"):
        return "jsonl"
    if first.replace(" ", "").startswith("[{") or first.strip() == "[":  # [图片] is a message
        return "json"
    names = [name.strip().lower() for name in next(csv.reader([first]), [])]
    return "csv" if len(names) > 1 and set(names) & set(TEXT_COLUMNS) else "lines"


def text_column(names: Iterable[str], wanted: str | None) -> str:
    """Return the name of the text column; raise UnreadableInput listing what there is."""
    names = list(names)
    found = ", ".join(map(repr, names)) or "none"
    if wanted is not None:
        if wanted in names:
            return wanted
        raise UnreadableInput(f"no column {wanted!r}; found {found}")
    for candidate in TEXT_COLUMNS:
        for name in names:
            if name.strip().lower() == candidate:
                return name
    raise UnreadableInput(f"no text column; found {found}; name it with --text")


def _plain_rows(lines: Iterator[Line]) -> Iterator[InputRow]:
    for number, line, fault in lines:
        fault = fault or too_long(line)
        yield InputRow(number, "" if fault else line, {"text": line}, fault)


def _json_rows(lines: Iterator[Line], wanted: str | None) -> Iterator[InputRow]:
    for number, line, fault in lines:
        try:
            if fault:
                raise _Fault(fault, text=line)
            if not line.strip():
                raise _Fault("a blank line where a JSON object should stand", text=line)
            fields = _json_object(line)
            text = _text_of(fields, wanted)
            yield InputRow(number, text, fields)
        except _Fault as error:
            yield InputRow(number, "", error.fields, str(error))


def _array_rows(lines: Iterator[Line], wanted: str | None) -> Iterator[InputRow]:
    """A vendor's callback, say: one JSON array, read whole; its entries are numbered as if each were a line."""
    faults: list[str] = []
    document = []
    for number, line, fault in lines:
        document.append(line)
        if fault:
            faults.append(f"line {number}: {fault}")
    if faults:
        raise UnreadableInput(faults[0])
    try:
        entries = json.loads("\n".join(document))
    except (ValueError, RecursionError) as error:
        raise UnreadableInput(f"not a JSON array ({error})") from None
    yield from _json_rows(
        ((n, json.dumps(entry), None) for n, entry in enumerate(entries, start=1)), wanted
    )


def _json_object(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
        # Half a surrogate pair ("\ud83d") is JSON, but no text that UTF-8 can carry.
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _Fault(
            "holds half of a surrogate pair; export it again as UTF-8", text=line
        ) from None
    except (ValueError, RecursionError) as error:
        raise _Fault(f"not JSON ({error}); one object a line", text=line) from None
    if not isinstance(fields, dict):
        raise _Fault(f"a JSON {type(fields).__name__}, not an object", text=line)
    return fields


def _text_of(fields: dict[str, Any], wanted: str | None) -> str:
    try:
        text = fields[text_column(fields, wanted)]
    except UnreadableInput as error:
        raise _Fault(str(error), **fields) from None
    if not isinstance(text, str):
        raise _Fault(f"the text is a JSON {type(text).__name__}, not a string", **fields)
    if fault := too_long(text):
        raise _Fault(fault, **fields)
    return text


def _csv_rows(lines: Iterator[Line], wanted: str | None) -> Iterator[InputRow]:
    faults: dict[int, str] = {}
    numbers: list[int] = [0]

    def characters() -> Iterator[str]:
        for number, line, fault in lines:
            numbers[0] = number
            if fault:
                faults[number] = fault
            yield line + "\n"

    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(characters())
    header = next(reader)
    if faults:
        raise UnreadableInput(f"line {numbers[0]}: {faults[numbers[0]]}")
    if len(set(header)) < len(header):
        raise UnreadableInput("a column name stands twice in the header")
    column = text_column(header, wanted)
    while True:
        begin = numbers[0] + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield InputRow(begin, "", {}, f"not CSV ({error})")
            continue
        fields: dict[str, Any] = dict(zip(header, values, strict=False))
        fault = next((faults.pop(n) for n in range(begin, numbers[0] + 1) if n in faults), None)
        if fault is None and not values:
            continue  # csv.reader's answer to an empty line, which is no row
        if fault is None and len(values) != len(header):
            fault = f"{len(values)} fields, but the header has {len(header)}"
        fault = fault or too_long(fields[column])
        yield InputRow(begin, "" if fault else fields[column], fields, fault)


def too_long(text: str) -> str | None:
    """Return the fault of a text that is longer than any message, None for any other."""
    if len(text) > MAX_CHARACTERS:
        return f"the text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read"
    return None

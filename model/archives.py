"""Archives of messages, Parquet, CSV or JSONL: read in chunks, written again with what was found beside each row.

Everything streams: a chunk is in memory at a time. What is written stands under a draft's name until it is
whole. Parquet needs pyarrow (the extra `batch`); its columns and their types pass through untouched.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from model.cli import CHUNK, document
from model.rows import InputRow, UnreadableInput, read_rows, text_column, too_long

SUFFIXES = (".parquet", ".csv", ".jsonl")


class UnknownArchive(ValueError):
    """A file is none of the formats, or what it needs is not installed. The message says which."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Up to CHUNK rows; of Parquet also the table that they stand in, and then their fields are empty."""

    rows: list[InputRow]
    table: Any = None

    @property
    def texts(self) -> list[str]:
        """The texts that can be read."""
        return [row.text for row in self.rows if row.fault is None]


class Writer(Protocol):
    """Writes chunks with what was found: for each row that can be read, the prediction's JSON form."""

    def write(self, chunk: Chunk, found: Sequence[dict[str, Any]]) -> None: ...

    def close(self) -> None: ...


def chunks(path: Path, text: str | None = None, encoding: str = "utf-8") -> Iterator[Chunk]:
    """Yield an archive's rows in order, the same chunks at every reading.

    Raises UnknownArchive, and UnreadableInput where no row can be read at all.
    """
    if path.suffix == ".parquet":
        yield from _parquet_chunks(path, text)
        return
    if path.suffix not in SUFFIXES:
        raise UnknownArchive(f"{path}: none of {', '.join(SUFFIXES)}")
    with path.open("rb") as stream:
        kind = "csv" if path.suffix == ".csv" else "jsonl"
        rows = read_rows(stream, kind, text, encoding)  # type: ignore[arg-type]
        while chunk := list(islice(rows, CHUNK)):
            yield Chunk(chunk)


def _parquet_chunks(path: Path, text: str | None) -> Iterator[Chunk]:
    pa, pq = _arrow()
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid:
        raise UnreadableInput("not a Parquet file") from None
    with file:
        column = text_column(file.schema_arrow.names, text)
        line = 0
        for table in _tables(file):
            values = enumerate(table.column(column).to_pylist(), start=line + 1)
            yield Chunk([_row(number, value) for number, value in values], table)
            line += table.num_rows


def _tables(file: Any) -> Iterator[Any]:
    """Yield a Parquet file's rows by the CHUNK, however it groups them; of an empty one the columns."""
    pa, _ = _arrow()
    waiting = file.schema_arrow.empty_table()
    for batch in file.iter_batches(batch_size=CHUNK):  # a batch ends where its row group ends
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        if waiting.num_rows >= CHUNK:
            yield waiting.slice(0, CHUNK)
            waiting = waiting.slice(CHUNK)
    if waiting.num_rows or not file.metadata.num_rows:
        yield waiting


def _row(line: int, value: Any) -> InputRow:
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        return InputRow(line, "", {}, f"the text is {kind}, not a string")
    fault = too_long(value)
    return InputRow(line, "" if fault else value, {}, fault)


@contextmanager
def writing(path: Path, source: Path) -> Iterator[Writer]:
    """Yield a writer of `path`, which appears when the block ends, and does not if it raises."""
    draft = path.with_name(f".{path.name}.draft")
    kinds: dict[str, Callable[[Path, str], Writer]] = {
        ".parquet": _ParquetWriter,
        ".csv": _CsvWriter,
        ".jsonl": _JsonlWriter,
    }
    if path.suffix not in (source.suffix, ".jsonl") or path.suffix not in kinds:
        raise UnknownArchive(f"{path}: must be {source.suffix} as the input is, or .jsonl")
    writer = kinds[path.suffix](draft, str(source))
    try:
        yield writer
        writer.close()
        draft.replace(path)
    except BaseException:
        writer.close()
        draft.unlink(missing_ok=True)
        raise


class _JsonlWriter:
    """Rows as `tingxin classify` writes them."""

    def __init__(self, path: Path, name: str) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._name = name

    def write(self, chunk: Chunk, found: Sequence[dict[str, Any]]) -> None:
        for one in _documents(chunk, found, self._name):
            self._file.write(json.dumps(one, ensure_ascii=False, default=str) + "\n")

    def close(self) -> None:
        self._file.close()


class _CsvWriter:
    """The columns there were, then those found; what is no text or number as JSON. A mark for Excel in front."""

    def __init__(self, path: Path, name: str) -> None:
        self._file = path.open("w", encoding="utf-8-sig", newline="")
        self._name = name
        self._rows: csv.DictWriter[str] | None = None

    def write(self, chunk: Chunk, found: Sequence[dict[str, Any]]) -> None:
        documents = _documents(chunk, found, self._name)
        if self._rows is None:
            # A first chunk without a sound row still has its header; without any, there is nothing to name.
            names = dict.fromkeys(n for row in chunk.rows for n in row.fields)
            columns = [*dict.fromkeys([*names, *PREDICTED, "error"])]
            self._rows = csv.DictWriter(self._file, columns, extrasaction="ignore")
            self._rows.writeheader()
        for row, one in zip(chunk.rows, documents, strict=True):
            if "text" not in row.fields:
                one.pop("text", None)  # it stands in a column of another name
            self._rows.writerow({name: _cell(value) for name, value in one.items()})

    def close(self) -> None:
        self._file.close()


class _ParquetWriter:
    """The table there was, with typed columns added; one of the same name gives way."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._file: Any = None

    def write(self, chunk: Chunk, found: Sequence[dict[str, Any]]) -> None:
        pa, pq = _arrow()
        documents = _documents(Chunk(chunk.rows), found, self._name)  # what is added, no more
        table = chunk.table
        for name, kind in _columns(pa):
            values = [one.get(name) for one in documents]
            if name in ("scores", "spans"):
                values = [None if v is None else list(v.items()) for v in values]
            array = pa.array(values, kind)
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, array)
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, table.schema)
        self._file.write_table(table)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


PREDICTED = (
    *("labels", "scores", "action", "queue", "priority"),
    *("due", "scope", "reason", "span", "spans"),
)


def _columns(pa: Any) -> list[tuple[str, Any]]:
    span = pa.list_(pa.int32())
    kinds = {
        "labels": pa.list_(pa.string()),
        "scores": pa.map_(pa.string(), pa.float64()),
        "priority": pa.int32(),
        "span": span,
        "spans": pa.map_(pa.string(), span),
    }
    return [(name, kinds.get(name, pa.string())) for name in (*PREDICTED, "error")]


def _documents(chunk: Chunk, found: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    left = iter(found)
    rows = chunk.rows
    if chunk.table is not None:
        fields = chunk.table.to_pylist()
        rows = [InputRow(r.line, r.text, f, r.fault) for r, f in zip(rows, fields, strict=True)]
    return [document(row, None if row.fault else next(left), name) for row in rows]


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UnknownArchive("Parquet needs pyarrow: pip install 'tingxin[batch]'") from None
    return pa, pq

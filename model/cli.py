"""`tingxin classify`: rows in, the same rows with their predictions out."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

if TYPE_CHECKING:
    from model.classifier import Classifier
    from model.rows import InputRow

CHUNK = (
    1024  # rows classified together: enough to fill batches of like length, little enough to stream
)


class InputFormat(StrEnum):
    """What a file of messages may be."""

    auto = "auto"
    jsonl = "jsonl"
    json = "json"
    csv = "csv"
    lines = "lines"


def classify(
    file: Annotated[
        str, typer.Argument(help="JSONL、CSV 或纯文本;- 为标准输入 / - for standard input")
    ] = "-",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="输出文件 / write here, not to standard output"),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="模型目录 / the bundle; default: the shipped one")
    ] = None,
    text: Annotated[str | None, typer.Option(help="文本列名 / name of the text column")] = None,
    format: Annotated[
        InputFormat, typer.Option(help="输入格式 / format of the input")
    ] = InputFormat.auto,
    encoding: Annotated[
        str, typer.Option(help="文件编码 / encoding, where no byte-order mark tells")
    ] = "utf-8",
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going", help='坏行带 "error" 输出,不中断 / carry bad rows through with "error"'
        ),
    ] = False,
    brief: Annotated[
        bool,
        typer.Option("--brief", help="每条一行,便于阅读 / a line a row, for reading, not JSON"),
    ] = False,
) -> None:
    """读懂回复:逐行分类,输出 JSONL。/ Classify messages, one JSON row out for each row in, in order."""
    from model.bundle import SHIPPED, BundleError
    from model.classifier import Classifier
    from model.rows import UnreadableInput, read_rows

    name = "标准输入 / standard input" if file == "-" else file
    with ExitStack() as stack:
        try:
            source: BinaryIO = (
                sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
            )
            if out is not None and file != "-" and out.exists() and out.samefile(file):
                raise _stop(f"{out}: 输出会覆盖输入 / the output would overwrite the input")
            target: IO[str] = (
                stack.enter_context(out.open("w", encoding="utf-8", newline="\n"))
                if out is not None
                else stack.enter_context(os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n"))
            )
            classifier = Classifier.load(bundle or SHIPPED)
        except OSError as error:
            raise _stop(f"{error.filename}: {error.strerror}") from None
        except BundleError as error:
            raise _stop(str(error)) from None
        rows = read_rows(source, format.value, text, encoding)
        if file != "-" and sys.stderr.isatty():
            rows = _with_progress(rows, source, stack)
        try:
            done, faulty = _run(
                rows, classifier, target, name, keep_going, _brief if brief else _json
            )
        except UnreadableInput as error:
            raise _stop(f"{name}: {error}") from None
        except BrokenPipeError:  # the reader downstream (head, less) has seen enough
            os._exit(0)
    if faulty:
        typer.echo(
            f"{done} 行已处理,其中 {faulty} 行有误 / {done} rows, {faulty} of them with an error",
            err=True,
        )


def _run(
    rows: "Iterator[InputRow]",
    classifier: "Classifier",
    target: IO[str],
    name: str,
    keep_going: bool,
    written: Callable[[dict[str, Any]], str],
) -> tuple[int, int]:
    """Write a prediction row for each input row; return how many rows, and how many with an error."""
    done = faulty = 0
    while chunk := list(islice(rows, CHUNK)):
        fatal = None if keep_going else next((k for k, row in enumerate(chunk) if row.fault), None)
        good = chunk[:fatal]
        predictions = iter(classifier.classify([row.text for row in good if row.fault is None]))
        for row in good:
            added = None if row.fault else next(predictions).row()
            target.write(written(document(row, added, name)) + "\n")
            faulty += row.fault is not None
        done += len(good)
        target.flush()
        if fatal is not None:
            row = chunk[fatal]
            raise _stop(
                f"{name}:{row.line}: {row.fault}\n"
                f"已写出此前 {done} 行;加 --keep-going 可跳过坏行 / {done} rows before it were written; "
                "--keep-going carries bad rows through"
            )
    return done, faulty


def document(row: "InputRow", prediction: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """Return the row that comes out for one that went in: all its fields, and the prediction or the fault."""
    if row.fault is None and prediction is not None:
        return {"text": row.text} | row.fields | prediction
    return row.fields | {"error": f"{name}:{row.line}: {row.fault}"}


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False)


def _brief(document: dict[str, Any]) -> str:
    """Return a line for reading: action, labels, queue, and the text with the deciding span in 【】."""
    if "error" in document:
        return f"error     {document['error']}"
    text, (start, end) = document["text"], document["span"]
    marked = f"{text[:start]}【{text[start:end]}】{text[end:]}" if end > start else text
    queue = f"{document['queue']}, {document['due']}" if document["queue"] else ""
    labels = ", ".join(document["labels"]) or "–"
    return f"{document['action']:<10}{labels:<36}{queue:<31}{' '.join(marked.split())}"


def _with_progress(
    rows: "Iterator[InputRow]", source: BinaryIO, stack: ExitStack
) -> "Iterator[InputRow]":
    from rich.console import Console
    from rich.progress import Progress

    progress = stack.enter_context(Progress(console=Console(stderr=True)))
    task = progress.add_task("分类 / classify", total=os.fstat(source.fileno()).st_size or None)
    for number, row in enumerate(rows):
        if number % CHUNK == 0:
            progress.update(task, completed=source.tell())
        yield row
    progress.update(task, completed=source.tell())


def _stop(message: str) -> typer.Exit:
    typer.echo(f"错误 / error: {message}", err=True)
    return typer.Exit(1)

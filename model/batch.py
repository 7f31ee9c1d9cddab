"""`tingxin batch`: an archive in, the same archive with predictions out."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from model.archives import Chunk
    from model.classifier import Classifier

LARGE = 256 * 2**20  # bytes of input, beyond which Ray is worth its start


def batch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="文件或目录 / a .parquet, .csv or .jsonl, or a folder of them"
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="同格式或 .jsonl / the same format, or .jsonl; a folder"
        ),
    ],
    bundle: Annotated[
        Path | None, typer.Option(help="模型目录 / the bundle; default: the shipped one")
    ] = None,
    text: Annotated[str | None, typer.Option(help="文本列名 / name of the text column")] = None,
    encoding: Annotated[
        str, typer.Option(help="文件编码 / encoding, where no byte-order mark tells")
    ] = "utf-8",
    ray: Annotated[
        bool | None,
        typer.Option(
            "--ray/--no-ray", help="用 Ray Data;默认:大文件 / by Ray Data; default: if large"
        ),
    ] = None,
) -> None:
    """处理归档:Parquet、CSV、JSONL,字段不变,附上判断。/ Classify an archive; all rows and fields come out again."""
    from model.archives import UnknownArchive
    from model.bundle import SHIPPED, BundleError
    from model.on_ray import NoRay
    from model.rows import UnreadableInput

    faulty = 0
    try:
        for one, target in _pairs(source, out):
            try:
                counts = _one(one, target, bundle or SHIPPED, text, encoding, ray)
            except UnreadableInput as error:
                raise _stop(f"{one}: {error}") from None
            typer.echo(f"{target}: {counts[0]} 行 / rows", err=True)
            faulty += counts[1]
    except (UnknownArchive, BundleError, NoRay) as error:
        raise _stop(str(error)) from None
    except OSError as error:
        raise _stop(f"{error.filename}: {error.strerror}") from None
    if faulty:
        typer.echo(f"{faulty} 行有误,见 error 列 / {faulty} rows with an error", err=True)


def _pairs(source: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield what is to be read and written; of a folder, what OUT does not hold yet."""
    from model.archives import SUFFIXES

    if not source.is_dir():
        if out.exists() and source.exists() and out.samefile(source):
            raise _stop(f"{out}: 输出会覆盖输入 / the output would overwrite the input")
        yield source, out
        return
    files = sorted(p for p in source.iterdir() if p.suffix in SUFFIXES and p.name[0] != ".")
    if not files:
        raise _stop(f"{source}: 没有可处理的文件 / holds none of {', '.join(SUFFIXES)}")
    out.mkdir(parents=True, exist_ok=True)
    if out.samefile(source):
        raise _stop(f"{out}: 输出会覆盖输入 / the output would overwrite the input")
    for file in files:
        if not (out / file.name).exists():
            yield file, out / file.name


def _one(
    source: Path, out: Path, bundle: Path, text: str | None, encoding: str, ray: bool | None
) -> tuple[int, int]:
    """Write one archive; return how many rows it has, and how many of them with an error."""
    from model.archives import chunks, writing

    answers = _answers(source, bundle, text, encoding, ray)
    rows = faulty = 0
    with writing(out, source) as writer:
        for chunk in chunks(source, text, encoding):
            writer.write(chunk, answers(chunk))
            rows += len(chunk.rows)
            faulty += len(chunk.rows) - len(chunk.texts)
    return rows, faulty


def _answers(
    source: Path, bundle: Path, text: str | None, encoding: str, ray: bool | None
) -> "Callable[[Chunk], list[dict[str, Any]]]":
    """Return what predicts an archive's chunks, asked one after the other."""
    from model.on_ray import NoRay, predictions

    if ray or (ray is None and source.stat().st_size > LARGE):
        try:
            found = predictions(source, bundle, text, encoding)
        except NoRay:
            if ray:
                raise
        else:
            return lambda _: next(found)
    classifier = _loaded(bundle)

    def answers(chunk: "Chunk") -> list[dict[str, Any]]:
        classifier.forget()  # what a chunk says must not depend on who reads it, and after what
        return [prediction.row() for prediction in classifier.classify(chunk.texts)]

    return answers


@cache
def _loaded(bundle: Path) -> "Classifier":
    from model.classifier import Classifier

    return Classifier.load(bundle)


def _stop(message: str) -> typer.Exit:
    typer.echo(f"错误 / error: {message}", err=True)
    return typer.Exit(1)

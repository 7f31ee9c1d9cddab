"""`tingxin train`, `pretrain`, `evaluate`, `data`: what a data scientist types."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Annotated, get_args

import typer

DATA = Path(__file__).parents[1] / "data"
LINES = DATA / "corpora_labels.tsv"
data_app = typer.Typer(
    help="语料:检查、统计、导出 / the corpus: check, count, export", no_args_is_help=True
)

Data = Annotated[Path, typer.Option(help="数据目录 / the data folder")]
Real = Annotated[
    Path | None, typer.Option(help="真实留言,只用于评测 / real messages, for the report alone")
]
Bundle = Annotated[Path | None, typer.Option(help="模型目录 / a bundle; default: the shipped one")]


def _refuse(error: Exception) -> typer.Exit:
    typer.echo(f"错误 / error: {error}", err=True)
    return typer.Exit(1)


def train(
    out: Annotated[Path, typer.Option(help="写到这里 / the bundle goes here")] = Path(
        "models/challenger"
    ),
    data: Data = DATA,
    real: Real = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="配方 / a recipe in TOML; default: the one that suits the base"),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="基础编码器 / hub name or folder of an encoder")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="教师编码器 / hub name or folder of an encoder to learn from")
    ] = None,
    distillation: Annotated[
        float | None, typer.Option(help="教师占目标的份额 / the teacher's share of a target")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="轮数 / epochs")] = None,
    seed: Annotated[int | None, typer.Option(help="随机种子 / seed")] = None,
    card: Annotated[Path | None, typer.Option(help="模型卡 / write the model card here")] = None,
) -> None:
    """训练:数据 → 微调 → 校准 → 评测 → 模型包。/ From labels to a bundle, with its report."""
    from model.labels import LabelError
    from training.card import summary, write_card
    from training.config import Recipe, RecipeError, usual_recipe
    from training.dataset import DatasetError
    from training.finetune import EncoderUnreachable
    from training.pipeline import console, train

    try:
        dials = Recipe.read(
            recipe or usual_recipe(base),
            base=base,
            teacher=teacher,
            distillation=distillation,
            epochs=epochs,
            seed=seed,
        )
        run = train(data, out, dials, real)
        if card is not None:
            write_card(out, card)
    except (DatasetError, LabelError, RecipeError, EncoderUnreachable, OSError) as error:
        raise _refuse(error) from None
    console.print(summary(run.report))
    typer.echo(f"{out} ({run.version})")


def evaluate(
    file: Annotated[
        Path | None,
        typer.Argument(help="带标签的 JSONL / labelled JSONL; default: the corpus' test split"),
    ] = None,
    bundle: Bundle = None,
    data: Data = DATA,
) -> None:
    """评测:在带标签的留言上打分,输出 JSON。/ Measure a bundle on labelled messages; JSON to standard output."""
    from model.bundle import SHIPPED, BundleError
    from model.classifier import Classifier
    from model.labels import LabelError
    from training import dataset
    from training.evaluate import evaluate as measure

    try:
        classifier = Classifier.load(bundle or SHIPPED)
        schema = classifier.bundle.schema
        if file is None:
            rows = [r for r in dataset.read(data / "corpus", schema) if r.split == "test"]
        else:
            rows = dataset.read_real(file, schema)
        typer.echo(json.dumps(measure(classifier, rows), ensure_ascii=False, indent=1))
    except (BundleError, dataset.DatasetError, LabelError, OSError, ValueError) as error:
        raise _refuse(error) from None


def pretrain(
    folder: Annotated[
        Path, typer.Argument(help="文本目录 / a folder of *.txt or *.txt.xz, one message a line")
    ],
    out: Annotated[Path, typer.Option(help="写到这里 / the encoder goes here")] = Path(
        "models/encoder"
    ),
    vectors: Annotated[
        Path | None, typer.Option(help="字向量 / an .npz of character vectors for a warm start")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="从这个编码器续训 / an encoder whose schooling goes on")
    ] = None,
    labels: Annotated[
        Path, typer.Option(help="文本行的标签 / labels of some of the lines")
    ] = LINES,
    hours: Annotated[float, typer.Option(help="最多几小时 / at most so many hours")] = 2.0,
    epochs: Annotated[float, typer.Option(help="最多几轮 / at most so many epochs")] = 6.0,
    data: Data = DATA,
) -> None:
    """预训练:先学掩码的词,再学标签(语料与部分文本行);中断后再次运行即可续训。

    Pre-training: masked words, then labels (of the corpus and of some of the lines); run again to resume.
    """
    from model.labels import LabelError, Schema
    from training import dataset
    from training.config import SCHOOL_RECIPE, Recipe, RecipeError
    from training.intermediate import labelled_lines, school
    from training.pretrain import PretrainConfig
    from training.pretrain import pretrain as run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        schema = Schema.read(data / "labels.toml")
        ours = [r for r in dataset.read(data / "corpus", schema) if r.split == "train"]
        lines = labelled_lines(folder, labels, schema)
        texts = [row.text for row in ours]
        dials = PretrainConfig(hours=hours, epochs=epochs)
        report = run(folder, out, dials, vectors, more=texts, start=start)
        school(lines, ours, out, out, schema, Recipe.read(SCHOOL_RECIPE))
    except (dataset.DatasetError, LabelError, RecipeError, OSError, ValueError) as error:
        raise _refuse(error) from None
    typer.echo(json.dumps(report | {"lines": len(lines), "messages": len(ours)}))


@data_app.command()
def check(data: Data = DATA) -> None:
    """检查语料:格式、标签、重复、泄漏。/ Validate the corpus: form, labels, duplicates, leaks."""
    from model.labels import LabelError, Schema
    from training import dataset

    try:
        rows = dataset.read(data / "corpus", Schema.read(data / "labels.toml"))
    except (dataset.DatasetError, LabelError, OSError) as error:
        raise _refuse(error) from None
    leaks = [(a, b, s) for a, b, s in dataset.near_duplicates(rows) if a.split != b.split]
    for a, b, likeness in leaks:
        typer.echo(
            f"{a.id} ({a.split}) ~ {b.id} ({b.split}): {likeness:.0%} 相似 / alike; 保留其一 / keep one",
            err=True,
        )
    if leaks:
        raise typer.Exit(1)
    typer.echo(f"{len(rows)} 条,无误 / {len(rows)} rows, no fault")


@data_app.command()
def stats(data: Data = DATA) -> None:
    """统计语料:各标签、各划分。/ Count the corpus by label and split, as a Markdown table."""
    from model.labels import Schema
    from training import dataset

    schema = Schema.read(data / "labels.toml")
    rows = dataset.read(data / "corpus", schema)
    splits = get_args(dataset.Split)
    counts: Counter[tuple[str, str]] = Counter(
        (name, row.split) for row in rows for name in row.labels
    )
    counts |= Counter(("no label", row.split) for row in rows if not row.labels)
    counts |= Counter(
        ("no intent", row.split) for row in rows if not set(row.labels) & set(schema.intents)
    )
    counts |= Counter(("messages", row.split) for row in rows)
    typer.echo("| label | train | validation | test | all |\n|---|---:|---:|---:|---:|")
    for name in (*schema.names, "no intent", "no label", "messages"):
        cells = [counts[name, split] for split in splits]
        typer.echo(f"| {name} | {' | '.join(map(str, cells))} | {sum(cells)} |")


@data_app.command()
def coverage(data: Data = DATA) -> None:
    """覆盖面:行业、写信人、文体 × 标签。/ Labels by industry, writer and form, as Markdown tables."""
    from model.labels import LabelError, Schema
    from training import coverage, dataset

    try:
        schema = Schema.read(data / "labels.toml")
        families = coverage.read_families(data / "families.tsv")
        rows = dataset.read(data / "corpus", schema)
        typer.echo("\n".join(coverage.markdown(rows, families, schema)))
    except (dataset.DatasetError, LabelError, OSError) as error:
        raise _refuse(error) from None


@data_app.command()
def export(
    out: Annotated[Path, typer.Argument(help="写到这里 / a new folder")], data: Data = DATA
) -> None:
    """导出为 datasets 格式。/ Export the splits as a datasets.DatasetDict."""
    from model.labels import Schema
    from training import dataset

    dataset.export(dataset.read(data / "corpus", Schema.read(data / "labels.toml")), out)
    typer.echo(str(out))

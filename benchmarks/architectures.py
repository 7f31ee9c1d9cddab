"""What shape, pre-training and distillation are worth: macro-F1 over the intents against speed, all in one run.

    python benchmarks/architectures.py [--epochs 3] [--real ../shared/real_dev.jsonl]    # needs the extra train

Every network is fine-tuned by the shipped recipe (fewer epochs) on the training split, exported to int8 ONNX and
timed through our own scorer on the validation split. Thresholds are those of best F1 on the validation split. Prints a
table and draws `architectures.svg` beside it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from model import baseline
from model.labels import Schema
from model.scorer import Scorer, probabilities
from model.text import normalise
from training import dataset
from training.calibrate import best_f1
from training.config import Recipe
from training.distill import cross_fit, soft_targets
from training.evaluate import macro_f1
from training.export import write_parts
from training.finetune import ENCODER, finetune

DATA = Path(__file__).parents[1] / "data"
ROUNDS = 3
Probabilities = Callable[[Sequence[str]], np.ndarray]


class ConvConfig(PretrainedConfig):  # type: ignore[misc]
    """A convolutional student: as wide and as deep as told."""

    model_type = "tingxin-conv"

    def __init__(self, vocab_size: int = 1, hidden_size: int = 256, layers: int = 2, **rest: Any):
        super().__init__(**rest)
        self.vocab_size, self.hidden_size, self.layers = vocab_size, hidden_size, layers


class ConvModel(PreTrainedModel):  # type: ignore[misc]
    """Characters → `layers` residual convolutions of width 5 (after Kim 2014, arXiv 1408.5882)."""

    config_class = ConvConfig

    def __init__(self, config: ConvConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.table = nn.Embedding(config.vocab_size, width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, 5, padding=2) for _ in range(config.layers)
        )
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        kept = attention_mask.unsqueeze(1).to(self.table.weight.dtype)
        hidden = self.table(input_ids).transpose(1, 2) * kept
        for convolution in self.convolutions:
            hidden = (hidden + nn.functional.gelu(convolution(hidden))) * kept
        return BaseModelOutput(last_hidden_state=hidden.transpose(1, 2))


AutoConfig.register("tingxin-conv", ConvConfig)
AutoModel.register(ConvConfig, ConvModel)


def untrained(network: PreTrainedModel, folder: Path) -> str:
    """Save a network with random weights and the shipped tokenizer in the hub's format; return where."""
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(ENCODER).save_pretrained(folder)
    return str(folder)


def bert(hidden: int, layers: int, heads: int) -> BertModel:
    """Return a BERT of a shape with random weights over the shipped vocabulary."""
    return BertModel(
        BertConfig(
            vocab_size=len(AutoTokenizer.from_pretrained(ENCODER)),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            max_position_embeddings=256,
            type_vocab_size=1,
        )
    )


def network_reader(
    rows: Sequence[dataset.Row], schema: Schema, recipe: Recipe, soft: Any, scratch: Path
) -> Probabilities:
    """Fine-tune by a recipe, export to int8 and return the reader."""
    trained = finetune(rows, schema, recipe, soft=soft)
    write_parts(trained, DATA, {}, scratch)
    scorer = Scorer(scratch / "encoder.onnx", scratch / "tokenizer.json", recipe.max_length)

    def read(texts: Sequence[str]) -> np.ndarray:
        scored = scorer.score([normalise(t).text or " " for t in texts])
        return probabilities(np.stack([s.logits for s in scored]))

    return read


def main() -> None:
    """Print the table and draw the plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--plot", type=Path, default=Path(__file__).with_name("architectures.svg"))
    options = parser.parse_args()
    schema = Schema.read(DATA / "labels.toml")
    rows = dataset.read(DATA / "corpus", schema)
    train, validation, test = (
        [r for r in rows if r.split == s] for s in ("train", "validation", "test")
    )
    sets = {"validation": validation, "test": test}
    if options.real:
        sets["real"] = dataset.read_real(options.real, schema)
    recipe = replace(Recipe.read(), epochs=options.epochs)
    results: dict[str, tuple[float, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        linear = baseline.build().fit([r.text for r in train], dataset.matrix(train, schema))
        results["jieba + TF-IDF"] = measure(lambda t: linear.predict_proba(list(t)), sets, schema)
        torch.manual_seed(0)
        vocabulary = len(AutoTokenizer.from_pretrained(ENCODER))
        bases = {
            "convolutions 2×256": untrained(ConvModel(ConvConfig(vocabulary)), scratch / "conv"),
            "transformer 4×256": untrained(bert(256, 4, 4), scratch / "bert256"),
            "transformer 4×312": untrained(bert(312, 4, 12), scratch / "bert312"),
            "transformer 4×256, pre-trained": "",
        }
        for title, base in bases.items():
            own = replace(recipe, base=base)
            reader = network_reader(train, schema, own, None, scratch / title)
            results[title] = measure(reader, sets, schema)
            print(title, results[title], file=sys.stderr, flush=True)
        title = "transformer 4×256, pre-trained, distilled"
        own = replace(recipe, distillation=0.5)
        soft = soft_targets(train, schema, own, cross_fit(train, schema, recipe))
        reader = network_reader(train, schema, own, soft, scratch / title)
        results[title] = measure(reader, sets, schema)
    print(f"| | texts a second | {' | '.join(sets)} |\n|---|---:|{'---:|' * len(sets)}")
    for title, (rate, scores) in results.items():
        print(f"| {title} | {rate:,.0f} | {' | '.join(f'{s:.3f}' for s in scores.values())} |")
    draw(results, options.plot)


def measure(
    reader: Probabilities, sets: dict[str, list[dataset.Row]], schema: Schema
) -> tuple[float, dict[str, float]]:
    """Return texts a second on the validation split, and macro-F1 over the intents on each set."""
    intents = [schema.index(name) for name in schema.intents]
    own = [r.text for r in sets["validation"]]
    truth = dataset.matrix(sets["validation"], schema) > 0.5
    found = reader(own)
    thresholds = [best_f1(found[:, c], truth[:, c]) for c in intents]
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        reader(own)
        seconds.append(time.perf_counter() - start)
    scores = {}
    for title, rows in sets.items():
        truth = dataset.matrix(rows, schema)[:, intents] > 0.5
        guessed = reader([r.text for r in rows])[:, intents] >= thresholds
        scores[title] = macro_f1(truth, guessed, [r.family for r in rows])["value"]
    return len(own) / statistics.median(seconds), scores


def draw(results: dict[str, tuple[float, dict[str, float]]], path: Path) -> None:
    """Draw the test split's macro-F1 against texts a second."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for title, (rate, scores) in results.items():
        axes.plot(rate, scores["test"], "o", label=title)
    axes.set(
        xscale="log",
        xlabel=f"texts a second, {os.cpu_count()} cores",
        ylabel="macro-F1, test split",
    )
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    main()

"""How fast the shipped bundle reads: loading, one reply at a time, many distinct replies, repeated ones.

    python benchmarks/classify.py            # prints a table; benchmarks/README.md keeps recorded runs

The texts are the corpus' own, so lengths are those of replies and some tickets. Repeated traffic draws from
them by Zipf's law with exponent 1.1: a few replies (T, 退订, 好的) make up most of any inbox.
"""

import json
import os
import platform
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from model.classifier import Classifier
from model.explain import deciding_stretch
from model.text import normalise

CORPUS = Path(__file__).parents[1] / "data" / "corpus"
SINGLES = 500
REPEATED = 50_000


def texts() -> list[str]:
    """Return the corpus' texts, shuffled by a fixed seed."""
    lines = [
        json.loads(line)["text"]
        for path in sorted(CORPUS.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [lines[k] for k in np.random.default_rng(0).permutation(len(lines))]


def uncached(classifier: Classifier) -> Classifier:
    """Return a classifier on the same session with an empty cache."""
    return Classifier(classifier.bundle, classifier._scorer)


def measure(threads: int) -> dict[str, float]:
    """Return the figures for a number of threads; 0 lets the runtime take every core."""
    began = time.perf_counter()
    classifier = Classifier.load(threads=threads)
    classifier.classify(["别再发了"])
    cold = time.perf_counter() - began
    own = texts()
    singles = []
    alone = uncached(classifier)
    for text in own[:SINGLES]:
        start = time.perf_counter()
        alone.classify([text])
        singles.append(1000 * (time.perf_counter() - start))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rates = []
    for _ in range(3):
        fresh = uncached(classifier)
        start = time.perf_counter()
        fresh.classify(own)
        rates.append(len(own) / (time.perf_counter() - start))
    ranks = np.random.default_rng(1).zipf(1.1, 4 * REPEATED)
    stream = [own[k - 1] for k in ranks[ranks <= len(own)][:REPEATED]]
    repeated = uncached(classifier)
    start = time.perf_counter()
    for begin in range(0, len(stream), 1000):
        repeated.classify(stream[begin : begin + 1000])
    repeated_rate = len(stream) / (time.perf_counter() - start)
    predictions = uncached(classifier).classify(own)
    plain = [normalise(text).text or " " for text in own]
    start = time.perf_counter()
    scored = classifier._scorer.score(plain)
    middle = time.perf_counter()
    for one, prediction in zip(scored, predictions, strict=True):
        for name in prediction.labels:
            column = classifier.bundle.schema.index(name)
            deciding_stretch(one.contributions[:, column], one.places)
    explained = time.perf_counter()
    return {
        "load and first answer, s": cold,
        "one reply, p50 ms": statistics.median(singles),
        "one reply, p99 ms": float(np.quantile(singles, 0.99)),
        "distinct replies a second": statistics.median(rates),
        "repeated replies a second": repeated_rate,
        "spans of all labels, share of the time of scoring": (explained - middle)
        / (middle - start),
        "memory after some hundred replies, MB": memory,
    }


def main() -> None:
    """Print the figures for one core and for all as a Markdown table."""
    columns = {}
    for title, threads in (("one core", 1), (f"{os.cpu_count()} cores", 0)):
        # A fresh process each, so that memory and cold start are its own.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            columns[title] = alone.submit(measure, threads).result()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}\n")
    print(f"| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for name in next(iter(columns.values())):
        cells = " | ".join(f"{column[name]:,.2f}" for column in columns.values())
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()

"""How fast the shipped bundle reads: loading, one reply at a time, many distinct replies, repeated ones.

    python benchmarks/classify.py            # prints a table; benchmarks/README.md keeps recorded runs

The texts are the corpus' own, so lengths are those of replies and some tickets. Repeated traffic is that of a service
that has been running: some replies (1 in 5, 10 or 20) were never read before, the others are drawn by Zipf's law with
exponent 1.1 from the thousand shortest texts, which it knows (T, 退订, 好的, 收到). No count of a real inbox is public;
whoever has one reads off the row that fits.
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
TEXTS = 10_000
SINGLES = 500
COMMON = 1000  # texts that a running service has read before
REPEATED = 20_000


def texts(most: int = TEXTS) -> list[str]:
    """Return at most so many of the corpus' texts, picked and shuffled by a fixed seed."""
    lines = [
        json.loads(line)["text"]
        for path in sorted(CORPUS.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [lines[k] for k in np.random.default_rng(0).permutation(len(lines))[:most]]


def uncached(classifier: Classifier) -> Classifier:
    """Return a classifier on the same session with an empty cache."""
    return Classifier(classifier.bundle, classifier._scorer)


def traffic(classifier: Classifier, own: list[str], one_in: int) -> float:
    """Return replies a second where one in so many is new, and the others repeat common ones."""
    rng = np.random.default_rng(1)
    common = sorted(own, key=len)[:COMMON]
    ranks = rng.zipf(1.1, 20 * REPEATED)
    again = iter(ranks[ranks <= COMMON])
    rare = sorted(own, key=len)[COMMON:]
    new = (rare[k] for k in rng.permutation(len(rare)))
    stream = [next(new) if k % one_in == 0 else common[next(again) - 1] for k in range(REPEATED)]
    running = uncached(classifier)
    running.classify(common)
    start = time.perf_counter()
    for begin in range(0, len(stream), 1000):
        running.classify(stream[begin : begin + 1000])
    return len(stream) / (time.perf_counter() - start)


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
    repeated = {f"replies a second, 1 in {n} new": traffic(classifier, own, n) for n in (5, 10, 20)}
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
        **repeated,
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

"""How fast the shipped bundle reads beside what else could read replies, all in one run on the same texts.

    python benchmarks/rivals.py [--threads 2]     # needs the extras train and bench

The rivals: BERT-base (12 layers, 768 wide, random weights: speed does not depend on them) in a transformers pipeline
and as int8 ONNX under our own length-bucketed scorer; fastText (its maintained fork, floret) and jieba with TF-IDF and
logistic regression, both trained on the corpus. Rounds are interleaved, so that a noisy neighbour hits all alike; the
figures are medians. Last, the share that the encoder reaches of the CPU's int8 peak, which one large MatMulInteger
shows.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import floret
import numpy as np
import onnxruntime as ort
import torch
from classify import texts, uncached
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    pipeline,
)

from model import baseline
from model.bundle import SHIPPED, TOKENIZER
from model.classifier import Classifier
from model.encoder import ReplyEncoder
from model.labels import Schema
from model.scorer import Scorer, encode
from model.text import normalise
from training import dataset
from training.export import export_onnx
from training.finetune import Trained

ROUNDS = 5
FAST, SLOW = 3000, 150  # texts a round for the quick and for the slow readers
DATA = Path(__file__).parents[1] / "data"
Reader = Callable[[Sequence[str]], Any]


def bert_base(tokenizer: PreTrainedTokenizerFast) -> BertForSequenceClassification:
    """Return BERT-base with random weights and thirteen labels."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=21128, num_labels=13, problem_type="multi_label_classification")
    return BertForSequenceClassification(config).eval()


def bert_onnx(
    network: BertForSequenceClassification, classifier: Classifier, threads: int, scratch: Path
) -> Scorer:
    """Return BERT-base under our head as int8 ONNX in the scorer that serves our own encoder."""
    wrapped = ReplyEncoder(network.bert, 13, [0, 2, 3]).eval()
    trained = Trained(wrapped, classifier._scorer._tokenizer, 0, 224, ())  # type: ignore[union-attr]
    export_onnx(trained, scratch / "plain.onnx")
    quantize_dynamic(
        str(scratch / "plain.onnx"),
        str(scratch / "int8.onnx"),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    return Scorer(scratch / "int8.onnx", SHIPPED / TOKENIZER, 224, threads)


def fasttext(rows: Sequence[dataset.Row], scratch: Path) -> Any:
    """Train floret on the corpus, characters as words, one label a message."""
    lines = [
        f"__label__{row.labels[0] if row.labels else 'none'} {' '.join(normalise(row.text).text)}"
        for row in rows
    ]
    path = scratch / "train.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return floret.train_supervised(str(path), dim=64, epoch=20, wordNgrams=3, verbose=0)


def int8_peak(threads: int) -> float:
    """Return the operations a second of one large int8 matrix product in ONNX Runtime."""
    side = 2048
    node = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    weight = helper.make_tensor(
        "b", TensorProto.INT8, [side, side], np.ones((side, side), np.int8).tobytes(), raw=True
    )
    graph = helper.make_graph(
        [node], "peak",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [side, side])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, [side, side])],
        [weight],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    a = np.ones((side, side), np.uint8)
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        session.run(None, {"a": a})
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(seconds)


def operations(classifier: Classifier, sample: Sequence[str]) -> float:
    """Return the multiplications and additions that the encoder's matrices take for the texts."""
    config = json.loads(
        (Path(__file__).parents[1] / "model" / "encoder" / "config.json").read_text()
    )
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    tokenizer = classifier._scorer._tokenizer  # type: ignore[union-attr]
    lengths = [len(encode(tokenizer, normalise(t).text or " ", 224)[0]) for t in sample]
    return float(sum(2 * layers * (12 * width**2 * n + 2 * width * n**2) for n in lengths))


def main() -> None:
    """Print one table of readers and a line on the peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    classifier = Classifier.load(threads=threads)
    own = texts()
    fast, slow = own[:FAST], own[:SLOW]
    schema = Schema.read(DATA / "labels.toml")
    rows = [r for r in dataset.read(DATA / "corpus", schema) if r.split == "train"]
    wrapped = PreTrainedTokenizerFast(
        tokenizer_file=str(SHIPPED / TOKENIZER), pad_token="[PAD]", model_max_length=224
    )
    network = bert_base(wrapped)
    pipe = pipeline("text-classification", model=network, tokenizer=wrapped, device="cpu")
    linear = baseline.build().fit([r.text for r in rows], dataset.matrix(rows, schema))
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        scorer = bert_onnx(network, classifier, threads, scratch)
        shallow = fasttext(rows, scratch)
        readers: dict[str, tuple[Reader, Sequence[str]]] = {
            "this bundle, text to decision": (lambda t: uncached(classifier).classify(t), fast),
            "BERT-base, transformers pipeline, batches of 32": (
                lambda t: pipe(list(t), batch_size=32, truncation=True, top_k=None), slow,
            ),
            "BERT-base, int8 ONNX, length-bucketed": (
                lambda t: scorer.score([normalise(x).text or " " for x in t]), slow,
            ),
            "jieba + TF-IDF + logistic regression": (lambda t: linear.predict_proba(list(t)), fast),
            "fastText (floret)": (
                lambda t: shallow.predict([" ".join(normalise(x).text) for x in t]), fast,
            ),
        }  # fmt: skip
        rates: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(ROUNDS):
            for name, (reader, sample) in readers.items():
                start = time.perf_counter()
                reader(sample)
                rates[name].append(len(sample) / (time.perf_counter() - start))
    ours = statistics.median(rates["this bundle, text to decision"])
    print(f"{threads} threads\n\n| reader | texts a second | ours is |\n|---|---:|---:|")
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"| {name} | {rate:,.0f} | {ours / rate:,.1f} × |")
    plain = [normalise(t).text or " " for t in fast]
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        classifier._scorer.score(plain)  # type: ignore[union-attr]
        seconds.append(time.perf_counter() - start)
    reached, peak = operations(classifier, fast) / statistics.median(seconds), int8_peak(threads)
    print(f"\nEncoder: {reached / 1e9:,.0f} G operations a second,")
    print(f"{reached / peak:.0%} of the int8 peak ({peak / 1e9:,.0f} G).")


if __name__ == "__main__":
    main()

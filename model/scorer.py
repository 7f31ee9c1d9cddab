"""Score normalised texts with the bundle's ONNX encoder: logits, and what each character contributed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

BATCH_TOKENS = 4096  # padded tokens an ONNX call; more gains nothing on two cores
PADDING = 128  # tokens of it that an ONNX call may carry; a call more costs about as much
HEAD_SHARE = 0.7  # of a text too long for the encoder, this share of the room goes to its beginning


@dataclass(frozen=True, slots=True)
class Scored:
    """One text's logits [C], and the contributions [T, C] of T tokens at `places` [T, 2] in the text."""

    logits: NDArray[np.float32]
    contributions: NDArray[np.float32]
    places: NDArray[np.int64]


class Scorer:
    """An ONNX session and its tokenizer. Thread-safe: a session may be run by many threads."""

    def __init__(self, model: Path, tokenizer: Path, max_length: int, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Spinning threads win microseconds and burn a laptop's second core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._max_length = max_length

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Return logits and contributions for non-empty normalised texts, in their order."""
        encodings = [encode(self._tokenizer, text, self._max_length) for text in texts]
        results: dict[int, Scored] = {}
        for group in _groups([len(ids) for ids, _ in encodings]):
            width = max(len(encodings[k][0]) for k in group)
            ids = np.zeros((len(group), width), np.int64)
            mask = np.zeros((len(group), width), np.int64)
            for row, k in enumerate(group):
                ids[row, : len(encodings[k][0])] = encodings[k][0]
                mask[row, : len(encodings[k][0])] = 1
            logits, contributions = self._session.run(
                None, {"input_ids": ids, "attention_mask": mask}
            )
            for row, k in enumerate(group):
                length = len(encodings[k][0])
                results[k] = Scored(logits[row], contributions[row, :length], encodings[k][1])
        return [results[k] for k in range(len(texts))]


def encode(tokenizer: Tokenizer, text: str, max_length: int) -> tuple[list[int], NDArray[np.int64]]:
    """Return token ids with special tokens, and each token's place [T, 2] in the text (0, 0 for special).

    A text longer than the encoder can read keeps its beginning and its end: complaints open with
    what happened and close with what is demanded. Used in training and serving alike.
    """
    encoding = tokenizer.encode(text)
    ids, places = encoding.ids, np.array(encoding.offsets, np.int64).reshape(-1, 2)
    if len(ids) <= max_length:
        return ids, places
    head = int(max_length * HEAD_SHARE)
    tail = max_length - head
    return ids[:head] + ids[-tail:], np.concatenate([places[:head], places[-tail:]])


def _groups(lengths: list[int]) -> Iterator[list[int]]:
    """Yield positions grouped by like length, so that short texts do not pay for long neighbours."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    group: list[int] = []
    own = 0  # tokens that are no padding
    for k in order:
        padded = lengths[k] * (len(group) + 1)
        if group and (padded > BATCH_TOKENS or padded - own - lengths[k] > PADDING):
            yield group
            group, own = [], 0
        group.append(k)
        own += lengths[k]
    if group:
        yield group


def probabilities(
    logits: NDArray[np.float32],
    temperatures: NDArray[np.float64] | float = 1.0,
    biases: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Return the logistic function of logits / temperatures + biases; without these, uncalibrated.

    >>> probabilities(np.array([0, 900], "f4"), np.ones(2), np.zeros(2)).tolist()
    [0.5, 1.0]
    """
    return np.asarray(0.5 * (1 + np.tanh(0.5 * (logits / temperatures + biases))))

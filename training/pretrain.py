"""Pre-train the small character encoder by masked language modelling on a folder of text.

Reads `*.txt` and `*.txt.xz` (one message a line), masks whole words (jieba's), and writes an encoder
in the hub's format: config.json, model.safetensors (fp16), tokenizer.json. A killed run resumes from its last
checkpoint with the same data order. Source of the method: BERT (arXiv 1810.04805), whole-word masking for
Chinese (arXiv 1906.08101), Muon for the matrices between the embeddings (arXiv 2502.16982).

    tingxin pretrain FOLDER --out models/encoder --hours 2
"""

import json
import logging
import lzma
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jieba
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast

from model.text import normalise
from training.config import HEAD
from training.optimise import Optimisers, build

log = logging.getLogger(__name__)
jieba.setLogLevel(logging.WARNING)

PAD, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = [PAD, UNKNOWN, START, END, MASK]
# Few different shapes: allocators and kernel caches grow with every new one, by gigabytes in an hour.
WIDTH_STEP, MASK_STEP = 16, 256
IGNORED = -100


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """Dials of a run. `tokens` is the size of a batch in padded tokens, `hours` its time on the clock."""

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    max_length: int = 256
    chunk: int = 128
    vocabulary: int = 6000
    min_count: int = 5
    tokens: int = 8192
    learning_rate: float = 2e-3  # of embeddings, norms and biases, by AdamW
    matrix_rate: float = 4e-3  # of all other weights, by Muon
    warmup: float = 0.04
    masked: float = 0.2
    hours: float = 2.0
    epochs: float = 2.0
    checkpoint_minutes: float = 5.0
    seed: int = 7


def read_lines(folder: Path) -> Iterator[str]:
    """Yield the non-blank lines of every `*.txt` and `*.txt.xz` in a folder, in the order of the names."""
    files = sorted([*folder.glob("*.txt"), *folder.glob("*.txt.xz")])
    if not files:
        raise FileNotFoundError(f"{folder}: no *.txt or *.txt.xz file to pre-train on")
    for path in files:
        opener = lzma.open if path.suffix == ".xz" else open
        with opener(path, "rt", encoding="utf-8") as file:
            for line in file:
                if line := line.strip():
                    yield line


def build_tokenizer(texts: list[str], config: PretrainConfig) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the most frequent single characters of normalised texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    kept = [c for c, n in counts.most_common() if n >= config.min_count]
    vocabulary = {t: i for i, t in enumerate([*SPECIAL, *kept][: config.vocabulary])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(t, vocabulary[t]) for t in (START, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=START,
        sep_token=END,
        mask_token=MASK,
        model_max_length=config.max_length,
    )


@dataclass(frozen=True)
class Chunks:
    """Texts cut to at most `chunk` tokens: ids, word numbers (for whole-word masks), and where each begins."""

    ids: np.ndarray  # uint16 [tokens]
    words: np.ndarray  # uint8 [tokens], the number of the token's word within its chunk, modulo 256
    starts: np.ndarray  # int64 [chunks + 1]

    @classmethod
    def build(cls, texts: list[str], tokenizer: PreTrainedTokenizerFast, size: int) -> "Chunks":
        vocabulary = tokenizer.get_vocab()
        unknown = vocabulary[UNKNOWN]
        ids: list[np.ndarray] = []
        words: list[np.ndarray] = []
        starts = [0]
        room = size - 2
        for text in texts:
            number = np.fromiter(
                (k for k, w in enumerate(jieba.cut(text, HMM=False)) for _ in w), np.int64
            )
            codes = np.array([vocabulary.get(c, unknown) for c in text], np.uint16)
            for begin in range(0, len(codes), room):
                piece = codes[begin : begin + room]
                if len(piece) < 2:
                    continue
                ids.append(piece)
                words.append((number[begin : begin + room] % 256).astype(np.uint8))
                starts.append(starts[-1] + len(piece))
        return cls(np.concatenate(ids), np.concatenate(words), np.array(starts))

    def batches(self, rng: np.random.Generator, tokens: int) -> list[np.ndarray]:
        """Return chunk numbers grouped by like length, each group about `tokens` padded tokens, shuffled."""
        widths = _round_up(np.diff(self.starts) + 2, WIDTH_STEP)
        order = np.argsort(widths + rng.uniform(0, WIDTH_STEP, len(widths)), kind="stable")
        groups = []
        begin = 0
        while begin < len(order):
            size = max(1, tokens // int(widths[order[begin]]))
            while widths[order[begin : begin + size]].max() * size > tokens and size > 1:
                size = tokens // int(widths[order[begin : begin + size]].max())
            groups.append(order[begin : begin + size])
            begin += size
        return [groups[k] for k in rng.permutation(len(groups))]


def mask_words(
    chunks: Chunks,
    batch: np.ndarray,
    rng: np.random.Generator,
    share: float,
    special: dict[str, int],
    size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (input ids [B, L], positions of the masked in the flattened batch [M], their true ids [M]).

    M is filled up with positions whose true id is IGNORED. Of the chosen words 80 % become [MASK],
    10 % a random character, 10 % stay.
    """
    lengths = chunks.starts[batch + 1] - chunks.starts[batch]
    width = int(_round_up(lengths.max() + 2, WIDTH_STEP))
    ids = np.full((len(batch), width), special[PAD], np.int64)
    chosen = np.zeros((len(batch), width), bool)
    for row, k in enumerate(batch):
        a, b = chunks.starts[k], chunks.starts[k + 1]
        ids[row, 0] = special[START]
        ids[row, 1 : 1 + b - a] = chunks.ids[a:b]
        ids[row, 1 + b - a] = special[END]
        hit = rng.random(256) < share
        chosen[row, 1 : 1 + b - a] = hit[chunks.words[a:b]]
    if not chosen.any():
        chosen[:, 1] = True
    targets = ids[chosen]
    dice = rng.random(len(targets))
    shown = np.where(dice < 0.8, special[MASK], targets)
    shown = np.where(dice > 0.9, rng.integers(len(SPECIAL), size, len(targets)), shown)
    ids[chosen] = shown
    positions = np.flatnonzero(chosen)
    idle = int(_round_up(len(positions), MASK_STEP)) - len(positions)
    positions = np.pad(positions, (0, idle))
    targets = np.pad(targets, (0, idle), constant_values=IGNORED)
    return torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(targets)


def _round_up(number: Any, step: int) -> Any:
    return -(-number // step) * step


def shape(config: PretrainConfig, vocabulary: dict[str, int]) -> BertConfig:
    """Return the hub's description of the network."""
    return BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.hidden,
        max_position_embeddings=config.max_length,
        type_vocab_size=1,
        pad_token_id=vocabulary[PAD],
    )


def warm_start(network: BertForMaskedLM, vocabulary: dict[str, int], vectors: Path) -> int:
    """Fill the embedding rows of known characters from an .npz of `chars` and `vectors`; return how many."""
    table = np.load(vectors)
    known = {
        str(c): v for c, v in zip(table["chars"], table["vectors"].astype(np.float32), strict=True)
    }
    weight: Tensor = network.bert.embeddings.word_embeddings.weight
    width = next(iter(known.values())).shape[0]
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(weight.shape[1], weight.shape[1], generator=generator))[0][
        :width
    ]
    rows = [(vocabulary[c], v) for c, v in known.items() if c in vocabulary]
    if not rows:
        return 0
    values = torch.from_numpy(np.stack([v for _, v in rows])) @ turn
    values = (values - values.mean(0)) / values.std() * 0.02
    with torch.no_grad():
        weight[[i for i, _ in rows]] = values
    return len(rows)


def save_encoder(body: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a BERT body in the hub's format, weights in fp16, so that `from_pretrained(out)` reads it."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    body.config.save_pretrained(out)
    state = {k: v.to(torch.float16).contiguous() for k, v in body.state_dict().items()}
    save_file(
        {f"bert.{k}": v for k, v in state.items()}, out / "model.safetensors", {"format": "pt"}
    )
    (out / HEAD).unlink(missing_ok=True)  # it belonged to the weights that were there


class Checkpoint:
    """A resumable state in one folder: weights and moments as safetensors, progress as JSON, swapped whole."""

    def __init__(self, folder: Path, origin: dict[str, Any] | None = None) -> None:
        """`origin`: the schooling of the encoder that the run started from; a checkpoint of another is refused."""
        self.folder = folder
        self.origin = origin
        self.tensors = folder / "checkpoint.safetensors"
        self.progress = folder / "checkpoint.json"
        if self.progress.exists() and self._read().get("start") != origin:
            raise FileExistsError(
                f"{folder}: the checkpoint of a run with another start; choose another --out or remove it"
            )

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self.progress.read_text(encoding="utf-8")))

    def save(self, network: nn.Module, optimisers: Optimisers, progress: dict[str, float]) -> None:
        tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
        for number, optimiser in enumerate(optimisers):
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{number}.{index}.{k}": v for k, v in state.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.tensors.with_suffix(".draft")
        save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, draft)
        draft.replace(self.tensors)
        self.progress.write_text(json.dumps({**progress, "start": self.origin}), encoding="utf-8")

    def load(self, network: nn.Module, optimisers: Optimisers) -> dict[str, Any] | None:
        """Fill network and optimisers; return the progress written with them, or None for a fresh start."""
        if not self.progress.exists():
            return None
        tensors = load_file(self.tensors)
        network.load_state_dict(
            {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        )
        for number, optimiser in enumerate(optimisers):
            plain = optimiser.state_dict()
            for key, value in tensors.items():
                if key.startswith(f"optimiser.{number}."):
                    _, _, index, name = key.split(".")
                    plain["state"].setdefault(int(index), {})[name] = value
            optimiser.load_state_dict(plain)
        return self._read()


def _schooling(start: Path | None) -> dict[str, Any] | None:
    """Return what an encoder's folder says of how it was pre-trained; its name where it says nothing."""
    if start is None:
        return None
    record = start / "pretraining.json"
    if not record.is_file():
        return {"encoder": start.name}
    return dict(json.loads(record.read_text(encoding="utf-8")))


def pretrain(
    folder: Path,
    out: Path,
    config: PretrainConfig,
    vectors: Path | None = None,
    more: list[str] | None = None,
    start: Path | None = None,
) -> dict[str, float]:
    """Pre-train on a folder of text (and `more` texts), save the encoder to `out`, return the last losses.

    `start`: an encoder whose schooling goes on, with its vocabulary and shape (the layer that guesses masked
    characters starts anew); None for a new one, whose table `vectors` may warm. The rate falls linearly with the
    larger of two shares: steps done of `epochs`, time gone of `hours`. A run that is killed goes on where its
    checkpoint stands when called again with the same arguments; raises FileExistsError where `out` holds the
    checkpoint of another start.
    """
    torch.manual_seed(config.seed)
    if start is not None and vectors is not None:
        raise ValueError(
            "character vectors warm a new encoder; one that goes on has a table already"
        )
    origin = _schooling(start)
    checkpoint = Checkpoint(out / "checkpoint", origin)
    texts = [normalise(line).text for line in [*read_lines(folder), *(more or [])]]
    tokenizer = (
        PreTrainedTokenizerFast.from_pretrained(start) if start else build_tokenizer(texts, config)
    )
    vocabulary = tokenizer.get_vocab()
    chunks = Chunks.build(texts, tokenizer, config.chunk)
    log.info("%d texts, %d tokens, %d characters", len(texts), len(chunks.ids), len(vocabulary))
    del texts
    network = (
        BertForMaskedLM.from_pretrained(start, dtype=torch.float32)
        if start
        else BertForMaskedLM(shape(config, vocabulary))
    )
    if vectors is not None:
        log.info(
            "%d characters warm-started from %s",
            warm_start(network, vocabulary, vectors),
            vectors.name,
        )
    optimisers = build(network, config.matrix_rate, config.learning_rate, 0.01, (0.9, 0.98))
    peaks = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    saved = checkpoint.load(network, optimisers) or {"step": 0, "seconds": 0.0, "loss": math.nan}
    done, spent, loss_mean = int(saved["step"]), saved["seconds"], saved["loss"]
    steps_an_epoch = len(chunks.batches(np.random.default_rng(config.seed), config.tokens))
    total = max(1, round(steps_an_epoch * config.epochs))
    # No dropout: it costs a tenth of the time, and a few passes over a text do not overfit a network this small.
    network.eval()
    began = last_saved = time.monotonic()
    step = 0
    for epoch in range(math.ceil(config.epochs)):
        for batch in chunks.batches(np.random.default_rng((config.seed, epoch)), config.tokens):
            step += 1
            if step <= done:
                continue
            elapsed = spent + time.monotonic() - began
            share = max(step / total, elapsed / (config.hours * 3600))
            if share >= 1:
                break
            height = min(share / config.warmup, (1 - share) / (1 - config.warmup))
            for optimiser, own in zip(optimisers, peaks, strict=True):
                for group, peak in zip(optimiser.param_groups, own, strict=True):
                    group["lr"] = height * peak
            rng = np.random.default_rng((config.seed, 1, step))
            ids, positions, targets = mask_words(
                chunks, batch, rng, config.masked, vocabulary, len(vocabulary)
            )
            with torch.autocast("cpu", torch.bfloat16):
                hidden = network.bert(ids, attention_mask=(ids != vocabulary[PAD]).long())[0]
                scores = network.cls(hidden.flatten(0, 1)[positions])
            loss = nn.functional.cross_entropy(scores.float(), targets, ignore_index=IGNORED)
            network.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            for optimiser in optimisers:
                optimiser.step()
            loss_mean = (
                loss.item() if math.isnan(loss_mean) else 0.99 * loss_mean + 0.01 * loss.item()
            )
            if step % 50 == 0:
                log.info(
                    "step %d of %d, %.0f s, rate %.0f %% of its peak, loss %.3f",
                    step,
                    total,
                    elapsed,
                    100 * height,
                    loss_mean,
                )
            if time.monotonic() - last_saved > 60 * config.checkpoint_minutes:
                last_saved = time.monotonic()
                progress = {"step": step, "seconds": spent + last_saved - began, "loss": loss_mean}
                checkpoint.save(network, optimisers, progress)
                save_encoder(network.bert, tokenizer, out)
    seconds = spent + time.monotonic() - began
    checkpoint.save(network, optimisers, {"step": step, "seconds": seconds, "loss": loss_mean})
    save_encoder(network.bert, tokenizer, out)
    report = {
        "steps": float(step),
        "seconds": seconds,
        "loss": loss_mean,
        "tokens": float(len(chunks.ids)),
    }
    warmed = vectors.name if vectors else None
    facts = {"config": asdict(config), "vectors": warmed, "start": origin, **report}
    (out / "pretraining.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return report

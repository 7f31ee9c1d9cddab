"""Fine-tune an encoder on labelled messages: multi-label, noisy inputs, two passes made to agree.

Helped by R-Drop (arXiv 2106.14448), label smoothing, and an exponential moving average of the weights. The device,
bf16 and several processes are `accelerate`'s business: `accelerate launch` (one process a device) works, so does a
plain call.
"""

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import AutoTokenizer
from transformers.utils import logging as hub_logging

from model.encoder import ReplyEncoder
from model.labels import Schema
from model.scorer import encode
from model.text import normalise
from training.config import HEAD, Recipe
from training.dataset import Row, matrix
from training.optimise import build
from training.synthesis import perturb

ENCODER = Path(__file__).parents[1] / "model" / "encoder"


class EncoderUnreachable(RuntimeError):
    """The base encoder is neither a folder nor to be had from the hub."""


@dataclass(frozen=True)
class Trained:
    """A fine-tuned network, on the CPU and in evaluation mode, with its tokenizer."""

    network: ReplyEncoder
    tokenizer: Tokenizer
    pad: int
    max_length: int
    losses: tuple[float, ...]

    @torch.no_grad()
    def logits(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
        """Return logits [N, C] for raw texts."""
        plain = [normalise(text).text or " " for text in texts]
        order = sorted(range(len(plain)), key=lambda k: len(plain[k]))
        out = np.zeros((len(plain), self.network.bias.numel()), np.float32)
        for begin in range(0, len(order), batch_size):
            group = order[begin : begin + batch_size]
            ids = [encode(self.tokenizer, plain[k], self.max_length)[0] for k in group]
            out[group] = self.network(*collate(ids, self.pad))[0].float().numpy()
        return out


def folder_of(base: str) -> Path:
    """Return where an encoder lies, if it is no name of the hub: `base`, or for "" the shipped one."""
    return Path(base) if base else ENCODER


def load_base(base: str, labels: int, dropout: float) -> tuple[ReplyEncoder, Tokenizer, int]:
    """Return a fresh network on a base encoder, its tokenizer and padding id.

    `base` is a hub name, a folder in the hub's format, or "" for the shipped encoder. Raises EncoderUnreachable,
    with what to do about it, where there is none.
    """
    place = str(folder_of(base))
    hub_logging.set_verbosity_error()  # a missing pooling layer is no news: the head here is another
    hub_logging.disable_progress_bar()
    try:
        wrapped = AutoTokenizer.from_pretrained(place)
        network = ReplyEncoder.from_pretrained(place, labels, [])
    except (OSError, ValueError) as error:
        raise EncoderUnreachable(
            f"no encoder at {place!r}: it is no folder with config.json, model.safetensors and tokenizer.json, and the "
            f"hub does not give it ({type(error).__name__}). On a machine that reaches the hub, run "
            f"`hf download {place} --local-dir FOLDER`, copy the folder here, and pass --base FOLDER."
        ) from error
    special = [
        i
        for i in (wrapped.cls_token_id, wrapped.sep_token_id, wrapped.pad_token_id)
        if i is not None
    ]
    network = ReplyEncoder(network.body, labels, special, dropout)
    if (pooler := getattr(network.body, "pooler", None)) is not None:
        pooler.requires_grad_(False)  # never used; processes that train together would wait for it
    tokenizer: Tokenizer = wrapped.backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return network, tokenizer, int(wrapped.pad_token_id or 0)


def save_head(network: ReplyEncoder, names: Sequence[str], out: Path) -> None:
    """Write how a network reads each label, in fp16, beside its encoder."""
    parts = {"attention": network.attention.weight, "reading": network.reading.weight}
    tensors = {k: v.detach().to(torch.float16).contiguous() for k, v in parts.items()}
    tensors["bias"] = network.bias.detach().clone()
    save_file(tensors, out / HEAD, {"labels": ",".join(names)})


def load_head(network: ReplyEncoder, names: Sequence[str], folder: Path) -> int:
    """Fill the readings of the labels that an encoder has learned, by name; return how many it knew."""
    if not (folder / HEAD).is_file():
        return 0
    with safe_open(folder / HEAD, "pt") as file:
        learned = file.metadata()["labels"].split(",")
        parts = {k: file.get_tensor(k).float() for k in ("attention", "reading", "bias")}
    known = [(names.index(name), k) for k, name in enumerate(learned) if name in names]
    with torch.no_grad():
        for here, there in known:
            network.attention.weight[here] = parts["attention"][there]
            network.reading.weight[here] = parts["reading"][there]
            network.bias[here] = parts["bias"][there]
    return len(known)


def met_labels(base: str) -> dict[str, int]:
    """Return how many `lines` and `corpus` messages an encoder has learned the labels of; empty for none.

    `base` as for `load_base`.
    """
    record = folder_of(base) / "pretraining.json"
    if not record.is_file():
        return {}
    labels = json.loads(record.read_text(encoding="utf-8")).get("labels", {})
    return {name: labels[name] for name in ("lines", "corpus") if name in labels}


def collate(ids: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return padded ids and attention mask, both int64 [B, L]."""
    width = max(map(len, ids))
    padded = torch.full((len(ids), width), pad, dtype=torch.int64)
    mask = torch.zeros((len(ids), width), dtype=torch.int64)
    for row, own in enumerate(ids):
        padded[row, : len(own)] = torch.tensor(own)
        mask[row, : len(own)] = 1
    return padded, mask


def batches(texts: Sequence[str], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Yield shuffled batches of positions whose texts are of like length."""
    order = sorted(range(len(texts)), key=lambda k: len(texts[k]) + rng.uniform(0, 6))
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    rng.shuffle(groups)
    yield from groups


def objective(logits: Sequence[Tensor], targets: Tensor, recipe: Recipe) -> Tensor:
    """Return the loss of one or two passes: smoothed binary cross-entropy, plus their divergence (R-Drop)."""
    smooth = targets * (1 - recipe.label_smoothing) + (1 - targets) * recipe.label_smoothing / 4
    loss = torch.stack(
        [nn.functional.binary_cross_entropy_with_logits(x, smooth) for x in logits]
    ).mean()
    if len(logits) == 2:
        first, second = (x.sigmoid() for x in logits)
        # Symmetric KL of two Bernoullis, in closed form: (p - q)(logit p - logit q).
        loss = loss + recipe.consistency * ((first - second) * (logits[0] - logits[1])).mean()
    return loss


def finetune(
    rows: Sequence[Row],
    schema: Schema,
    recipe: Recipe,
    progress: Progress | None = None,
    title: str = "fine-tune",
    soft: NDArray[np.float32] | None = None,
) -> Trained:
    """Fine-tune on labelled rows and return the averaged weights. Deterministic on one machine for a seed.

    `soft`: a teacher's probabilities [N, C], of which each target takes the recipe's share.
    """
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    accelerator = Accelerator(mixed_precision="bf16")
    network, tokenizer, pad = load_base(recipe.base, len(schema.names), recipe.dropout)
    targets = torch.from_numpy(matrix(rows, schema))
    with torch.no_grad():  # start from each label's base rate rather than from a half
        rate = targets.mean(0).clamp(1e-3, 1 - 1e-3)
        network.bias.copy_(torch.log(rate / (1 - rate)))
    load_head(network, schema.names, folder_of(recipe.base))
    if soft is not None:
        targets = torch.lerp(targets, torch.from_numpy(soft), recipe.distillation)
    head = [*network.attention.parameters(), *network.reading.parameters(), network.bias]
    optimisers = build(
        network.body,
        recipe.matrix_rate,
        recipe.learning_rate,
        recipe.weight_decay,
        groups=[{"params": head, "lr": recipe.head_learning_rate}],
    )
    steps = recipe.epochs * math.ceil(len(rows) / recipe.batch_size)
    warmup = max(1, round(recipe.warmup * steps))

    def height(step: int) -> float:
        return min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))

    # Copied before `prepare`, which wraps forward in bf16; a decay of 0 keeps the last weights.
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging))
    # Schedules stay outside `prepare`, which would step them once for each process.
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, height) for o in optimisers]
    network, *optimisers = accelerator.prepare(network, *optimisers)
    average.to(accelerator.device)
    passes = 2 if recipe.consistency else 1
    losses = []
    task = progress.add_task(title, total=steps) if progress else None
    for epoch in range(recipe.epochs):
        network.train()
        share = recipe.noise if epoch < recipe.epochs - 1 else recipe.noise / 2
        texts = [normalise(perturb(row.text, rng, share)).text or " " for row in rows]
        total = 0.0
        for group in batches(texts, recipe.batch_size, rng):
            # Each process takes its part of the batch; the last one of a few may be left with a copy.
            group = group[accelerator.process_index :: accelerator.num_processes] or group[:1]
            ids = [encode(tokenizer, texts[k], recipe.max_length)[0] for k in group]
            inputs = [x.to(accelerator.device) for x in collate(ids * passes, pad)]
            with accelerator.autocast():
                logits = network(*inputs)[0]
            loss = objective(
                logits.float().chunk(passes), targets[group].to(accelerator.device), recipe
            )
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(network.parameters(), 1.0)
            for optimiser, schedule in zip(optimisers, schedules, strict=True):
                optimiser.step()
                schedule.step()
                optimiser.zero_grad(set_to_none=True)
            average.update_parameters(accelerator.unwrap_model(network))
            total += float(loss.detach()) * len(group)
            if progress and task is not None:
                progress.update(
                    task,
                    advance=1,
                    description=f"{title} · epoch {epoch + 1} · loss {total / len(rows):.3f}",
                )
        losses.append(total / len(rows))
    final = cast(ReplyEncoder, average.module)
    return Trained(final.cpu().eval(), tokenizer, pad, recipe.max_length, tuple(losses))

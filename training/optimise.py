"""Muon for the matrices inside an encoder, AdamW for everything else.

Muon steps along the orthogonalised momentum of a matrix (arXiv 2502.16982). On this project's small encoder it
reached in a quarter of the steps what AdamW did (docs/LOG.md); embeddings, norms and biases are no matrices that
map one space to another, and stay with AdamW.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

Optimisers = Sequence[torch.optim.Optimizer]
Named = Iterable[tuple[str, nn.Parameter]]


def build(
    named: Named,
    matrix_rate: float,
    rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    groups: Sequence[dict[str, object]] = (),
) -> Optimisers:
    """Return the optimisers of an encoder's named parameters; a `matrix_rate` of 0 leaves all to AdamW.

    `groups`: further AdamW parameter groups with rates of their own.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in named:
        if not weight.requires_grad:
            continue
        inner = matrix_rate and weight.ndim == 2 and not {"embedding", "decoder"} & _words(name)
        (matrices if inner else others).append(weight)
    adamw = torch.optim.AdamW(
        [{"params": others, "lr": rate}, *groups],
        betas=betas,
        weight_decay=weight_decay,
        fused=True,
    )
    if not matrices:
        return (adamw,)
    muon = torch.optim.Muon(
        matrices, lr=matrix_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return muon, adamw


def _words(name: str) -> set[str]:
    """Return the words of a parameter's name, in the singular."""
    return {word.rstrip("s") for part in name.split(".") for word in part.split("_")}

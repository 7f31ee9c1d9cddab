"""Muon for the matrices inside an encoder, AdamW for everything else.

Muon steps along the orthogonalised momentum of a matrix (arXiv 2502.16982). On this project's small encoder it
went further at equal steps than AdamW (docs/LOG.md); embeddings, norms and biases are no matrices that
map one space to another, and stay with AdamW.
"""

from collections.abc import Sequence

import torch
from torch import nn

Optimisers = Sequence[torch.optim.Optimizer]


def build(
    network: nn.Module,
    matrix_rate: float,
    rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    groups: Sequence[dict[str, object]] = (),
) -> Optimisers:
    """Return the optimisers of an encoder's trainable parameters; a `matrix_rate` of 0 leaves all to AdamW.

    `groups`: further AdamW parameter groups with rates of their own.
    """
    linear, tables = (
        {id(m.weight) for m in network.modules() if isinstance(m, kind)}
        for kind in (nn.Linear, nn.Embedding)
    )
    inner = linear - tables if matrix_rate else set()  # an output layer tied to a table is a table
    trainable = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in trainable if id(p) in inner]
    others = [p for p in trainable if id(p) not in inner]
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

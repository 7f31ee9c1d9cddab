"""The network that is trained: any Hugging Face encoder under label-wise attention pooling. The only file
of `model` that imports torch; serving never imports it.

Each label looks at the characters with its own attention a and reads them with its own weights w, so that
its logit is a sum over characters, a_i · (w · h_i), plus a bias. The summands are the explanation: they
come out of the same forward pass, at no further cost. After label-wise attention (Mullenbach et al. 2018,
arXiv 1802.05695).
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel


class ReplyEncoder(nn.Module):
    """ids [B, L], attention mask [B, L] → logits [B, C] and contributions [B, L, C]."""

    special: Tensor

    def __init__(
        self, body: PreTrainedModel, labels: int, special: list[int], dropout: float = 0.1
    ) -> None:
        # `special`: ids that are no part of the text ([CLS], [SEP], [PAD]); [UNK] is a character like any other.
        super().__init__()
        width = body.config.hidden_size
        self.body = body
        self.dropout = nn.Dropout(dropout)
        self.attention = nn.Linear(width, labels, bias=False)
        self.reading = nn.Linear(width, labels, bias=False)
        self.bias = nn.Parameter(torch.zeros(labels))
        self.register_buffer("special", torch.tensor(sorted(special)), persistent=False)

    @classmethod
    def from_pretrained(cls, base: str | Path, labels: int, special: list[int]) -> "ReplyEncoder":
        """Return the network on the encoder of a hub name or folder; raise OSError where it cannot be reached."""
        return cls(AutoModel.from_pretrained(base, dtype=torch.float32), labels, special)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        hidden = self.dropout(hidden)
        unread = torch.eq(input_ids.unsqueeze(-1), self.special).any(-1) | (attention_mask == 0)
        weights = self.attention(hidden).masked_fill(unread.unsqueeze(-1), -1e4).softmax(dim=1)
        contributions = weights * self.reading(hidden)
        return contributions.sum(dim=1) + self.bias, contributions

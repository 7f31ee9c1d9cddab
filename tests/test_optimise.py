import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from training.optimise import build


@pytest.fixture
def network() -> BertForMaskedLM:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=30,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        )
    )


def names(network, optimiser) -> set[str]:
    known = {id(p): name for name, p in network.named_parameters()}
    return {known[id(p)] for group in optimiser.param_groups for p in group["params"]}


def test_muon_takes_the_matrices_inside_and_nothing_else(network):
    muon, adamw = build(network, 2e-3, 5e-4, 0.01)
    assert isinstance(muon, torch.optim.Muon)
    inside, rest = names(network, muon), names(network, adamw)
    assert inside | rest == {name for name, _ in network.named_parameters()}
    assert not inside & rest
    assert "bert.encoder.layer.0.attention.self.query.weight" in inside
    assert "bert.embeddings.word_embeddings.weight" in rest
    assert "bert.embeddings.LayerNorm.weight" in rest
    assert "bert.encoder.layer.0.output.dense.bias" in rest


def test_a_matrix_rate_of_nought_leaves_all_to_adamw(network):
    (adamw,) = build(network, 0.0, 5e-4, 0.01)
    assert len(names(network, adamw)) == len(list(network.named_parameters()))


def test_frozen_weights_are_left_alone_and_further_groups_keep_their_rate(network):
    network.bert.embeddings.requires_grad_(False)
    extra = torch.nn.Parameter(torch.zeros(3))
    muon, adamw = build(network.bert, 2e-3, 5e-4, 0.01, groups=[{"params": [extra], "lr": 0.7}])
    assert [group["lr"] for group in adamw.param_groups] == [5e-4, 0.7]
    optimised = {id(p) for o in (muon, adamw) for g in o.param_groups for p in g["params"]}
    assert not optimised & {id(p) for p in network.bert.embeddings.parameters()}

import json
import lzma
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, BertForMaskedLM

from training.optimise import build
from training.pretrain import (
    IGNORED,
    SPECIAL,
    Checkpoint,
    Chunks,
    PretrainConfig,
    build_tokenizer,
    mask_words,
    pretrain,
)

LINES = [f"第{k}位客户说再发短信就去投诉,请马上退订" for k in range(120)]
TINY = PretrainConfig(
    hidden=16,
    layers=1,
    heads=2,
    max_length=64,
    chunk=32,
    min_count=1,
    tokens=512,
    epochs=2,
    hours=1,
)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "text"
    path.mkdir()
    (path / "a.txt").write_text("\n".join(LINES[:60]), encoding="utf-8")
    (path / "b.txt.xz").write_bytes(lzma.compress("\n".join(LINES[60:]).encode()))
    return path


def test_a_folder_of_text_becomes_an_encoder_in_the_hubs_format(folder, tmp_path):
    report = pretrain(folder, tmp_path / "out", TINY)
    assert report["steps"] > 0
    assert math.isfinite(report["loss"])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    body = AutoModel.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = tokenizer("退订短信", return_tensors="pt")["input_ids"]
    assert ids.shape == (1, 6)
    assert body(ids).last_hidden_state.shape == (1, 6, 16)


def test_a_stopped_run_goes_on_where_it_stood(folder, tmp_path):
    out = tmp_path / "out"
    first = pretrain(folder, out, PretrainConfig(**{**vars_of(TINY), "epochs": 1}))
    second = pretrain(folder, out, TINY)
    progress = json.loads((out / "checkpoint" / "checkpoint.json").read_text(encoding="utf-8"))
    assert second["steps"] > first["steps"]
    assert progress["seconds"] > first["seconds"]


def vars_of(config: PretrainConfig) -> dict:
    return {name: getattr(config, name) for name in PretrainConfig.__dataclass_fields__}


def test_vectors_fill_the_rows_of_the_characters_they_know(folder, tmp_path):
    vectors = tmp_path / "v.npz"
    np.savez(vectors, chars=np.array(["退", "订"]), vectors=np.eye(2, 8, dtype=np.float16))
    pretrain(folder, tmp_path / "out", PretrainConfig(**{**vars_of(TINY), "hours": 1e-9}), vectors)
    body = AutoModel.from_pretrained(tmp_path / "out", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    rows = body.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(["退", "订"])]
    assert torch.allclose(rows[0], -rows[1], atol=1e-3)  # two centred rows mirror each other


def test_whole_words_are_masked_together_and_targets_are_the_true_characters():
    texts = ["退订短信马上停止"] * 8
    tokenizer = build_tokenizer(texts, TINY)
    vocabulary = tokenizer.get_vocab()
    chunks = Chunks.build(texts, tokenizer, 32)
    rng = np.random.default_rng(0)
    batch = np.arange(8)
    ids, positions, targets = mask_words(chunks, batch, rng, 0.5, vocabulary, len(vocabulary))
    real = targets != IGNORED
    assert real.any()
    rows = positions[real] // ids.shape[1]
    columns = positions[real] % ids.shape[1] - 1
    original = torch.tensor(
        [chunks.ids[chunks.starts[r] + c] for r, c in zip(rows, columns, strict=True)]
    )
    assert torch.equal(targets[real], original.to(targets.dtype))
    # 马上 and 停止 stand at 4-5 and 6-7: where one character of a word is chosen, so is the other.
    chosen = {(int(r), int(c)) for r, c in zip(rows, columns, strict=True)}
    assert all(((r, 6) in chosen) == ((r, 7) in chosen) for r in range(8))


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \*\.txt"):
        pretrain(tmp_path, tmp_path / "out", TINY)


def test_special_tokens_come_first():
    vocabulary = build_tokenizer(["退订"], TINY).get_vocab()
    assert [vocabulary[t] for t in SPECIAL] == list(range(5))


def test_an_encoder_goes_on_with_its_own_vocabulary_and_weights(folder, tmp_path):
    first = tmp_path / "first"
    pretrain(folder, first, TINY)
    instant = PretrainConfig(**{**vars_of(TINY), "hours": 1e-9})
    pretrain(folder, tmp_path / "second", instant, start=first)
    before, after = (AutoModel.from_pretrained(tmp_path / x) for x in ("first", "second"))
    for name, weight in before.state_dict().items():
        if not name.startswith(
            "pooler"
        ):  # a masked language model has none: it is made up at loading
            assert torch.equal(weight, after.state_dict()[name].to(weight.dtype)), name
    record = json.loads((tmp_path / "second" / "pretraining.json").read_text(encoding="utf-8"))
    assert record["start"] == json.loads((first / "pretraining.json").read_text(encoding="utf-8"))


def test_the_checkpoint_of_another_start_is_refused(folder, tmp_path):
    out = tmp_path / "out"
    pretrain(folder, out, TINY)
    with pytest.raises(FileExistsError, match="another --out"):
        pretrain(folder, out, TINY, start=out)


def test_vectors_are_for_new_encoders_only(folder, tmp_path):
    with pytest.raises(ValueError, match="has a table already"):
        pretrain(folder, tmp_path / "out", TINY, vectors=tmp_path / "v.npz", start=tmp_path)


def test_a_resumed_run_has_the_momenta_of_both_optimisers(folder, tmp_path):
    pretrain(folder, tmp_path / "out", TINY)
    saved = load_file(tmp_path / "out" / "checkpoint" / "checkpoint.safetensors")
    assert {key.split(".")[1] for key in saved if key.startswith("optimiser.")} == {"0", "1"}
    network = BertForMaskedLM.from_pretrained(tmp_path / "out")
    optimisers = build(network, 1e-3, 1e-3, 0.0)
    Checkpoint(tmp_path / "out" / "checkpoint").load(network, optimisers)
    for number, optimiser in enumerate(optimisers):
        assert optimiser.state_dict()["state"], number

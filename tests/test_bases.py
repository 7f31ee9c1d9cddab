"""Encoders of the architectures that the hub holds for Chinese, tiny and random, saved in the hub's format."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    BertTokenizerFast,
    ElectraConfig,
    ElectraModel,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
)

from model.classifier import Classifier
from model.labels import Schema
from model.text import normalise
from training import dataset
from training.config import Recipe
from training.distill import soft_targets
from training.finetune import finetune, load_base

DATA = Path(__file__).parents[1] / "data"
SCHEMA = Schema.read(DATA / "labels.toml")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}  # fmt: skip

# RoBERTa-wwm, MacBERT and bge are BERTs by their architecture; RoBERTa itself numbers positions after the padding id.
ARCHITECTURES: dict[str, tuple[type[PretrainedConfig], type[PreTrainedModel], dict[str, int]]] = {
    "bert": (BertConfig, BertModel, {}),
    "roberta": (RobertaConfig, RobertaModel, {"max_position_embeddings": 260, "pad_token_id": 0}),
    "electra": (ElectraConfig, ElectraModel, {"embedding_size": 16}),
    "albert": (AlbertConfig, AlbertModel, {"embedding_size": 16}),
}


@pytest.fixture(scope="module")
def rows() -> list[dataset.Row]:
    every = [r for r in dataset.read(DATA / "corpus", SCHEMA) if r.split == "train"]
    return every[:: len(every) // 60][:60]


def save_tiny(name: str, rows: list[dataset.Row], folder: Path) -> Path:
    config, network, more = ARCHITECTURES[name]
    characters = sorted({c for r in rows for c in normalise(r.text).text if not c.isspace()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    words = folder / "vocab.txt"
    words.write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=str(words))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    network(config(vocab_size=len(tokenizer), **(SMALL | more))).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_architecture_is_fine_tuned_and_served(name, rows, tmp_path):
    from training.export import write_parts

    base = save_tiny(name, rows, tmp_path)
    trained = finetune(rows, SCHEMA, Recipe(base=str(base), epochs=1, batch_size=16))
    before = load_base(str(base), len(SCHEMA.names), 0.0)[0].body.state_dict()
    after = trained.network.body.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    calibration = {
        "temperatures": dict.fromkeys(SCHEMA.names, 1.0),
        "biases": dict.fromkeys(SCHEMA.names, 0.0),
        "thresholds": {"labels": dict.fromkeys(SCHEMA.names, 0.5), "suppress": None, "hold": 0.9},
    }
    bundle = tmp_path / "bundle"
    write_parts(trained, DATA, calibration, bundle)
    from model.bundle import write_manifest

    write_manifest(bundle, {"max_length": 128})
    texts = ["没钱还了", "别再给我发这些短信,我没有借过你们的钱"]
    served = [list(p.scores.values()) for p in Classifier.load(bundle).classify(texts)]
    wanted = 1 / (1 + np.exp(-trained.logits(texts)))
    assert np.allclose(served, wanted, atol=0.05)  # int8 costs a little


def test_a_teacher_of_another_architecture_moves_the_targets(rows, tmp_path):
    teacher, student = (tmp_path / x for x in ("teacher", "student"))
    for name, folder in (("electra", teacher), ("bert", student)):
        folder.mkdir()
        save_tiny(name, rows, folder)
    recipe = Recipe(base=str(student), teacher=str(teacher), distillation=0.5, epochs=1, folds=2)
    own = np.zeros((len(rows), len(SCHEMA.names)), np.float32)
    soft = soft_targets(rows, SCHEMA, recipe, own)
    assert soft is not None
    assert not np.allclose(soft, 0.5)  # the teacher's, not the student's own
    taught, untaught = (
        finetune(rows, SCHEMA, recipe, soft=s).logits(["没钱还了"]) for s in (soft, None)
    )
    assert not np.allclose(taught, untaught)
    assert soft_targets(rows, SCHEMA, Recipe(distillation=0.0), own) is None


def test_two_processes_share_the_work(rows, tmp_path):
    base = save_tiny("bert", rows, tmp_path)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, json, numpy as np\n"
        "from pathlib import Path\n"
        "from accelerate import PartialState\n"
        "from model.labels import Schema\n"
        "from training import dataset\n"
        "from training.config import Recipe\n"
        "from training.finetune import finetune\n"
        "data, base, out = map(Path, sys.argv[1:])\n"
        "schema = Schema.read(data / 'labels.toml')\n"
        "rows = dataset.read(data / 'corpus', schema)[:32]\n"
        "trained = finetune(rows, schema, Recipe(base=str(base), epochs=1, batch_size=8))\n"
        "state = PartialState()\n"
        "logits = trained.logits(['没钱还了'])[0].tolist()\n"
        "(out / f'{state.process_index}.json').write_text(json.dumps([state.num_processes, logits]))\n",
        encoding="utf-8",
    )
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    run = subprocess.run(
        [*launch, str(script), str(DATA), str(base), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=DATA.parent,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    first, second = (json.loads((tmp_path / f"{k}.json").read_text()) for k in (0, 1))
    assert first[0] == second[0] == 2
    assert np.allclose(first[1], second[1], atol=1e-6)

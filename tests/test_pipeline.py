"""From labels to a bundle, on a corpus and an encoder small enough for seconds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM
from typer.testing import CliRunner

from model.bundle import Bundle
from model.classifier import Classifier
from model.encoder import ReplyEncoder
from model.labels import Schema
from model.text import normalise
from tingxin import app
from training import dataset
from training.card import model_card, summary, write_card
from training.config import Recipe
from training.distill import cross_fit
from training.finetune import EncoderUnreachable, finetune, load_base
from training.pipeline import train
from training.pretrain import PretrainConfig, build_tokenizer, save_encoder

DATA = Path(__file__).parents[1] / "data"
SCHEMA = Schema.read(DATA / "labels.toml")


@pytest.fixture(scope="module")
def rows() -> list[dataset.Row]:
    every = dataset.read(DATA / "corpus", SCHEMA)
    return [r for k, r in enumerate(every) if k % (len(every) // 400) == 0]


@pytest.fixture(scope="module")
def base(rows, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    config = PretrainConfig(max_length=256, min_count=1)
    tokenizer = build_tokenizer([normalise(r.text).text for r in rows], config)
    torch.manual_seed(0)
    network = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=256,
        )
    )
    save_encoder(network.bert, tokenizer, folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("labels.toml", "rules.toml", "folds.tsv", "policy.toml"):
        shutil.copy(DATA / name, folder / name)
    (folder / "corpus").mkdir()
    lines = [
        json.dumps(
            {
                "id": r.id,
                "text": r.text,
                "labels": r.labels,
                "source": r.source,
                "family": r.family,
            },
            ensure_ascii=False,
        )
        for r in rows
    ]
    (folder / "corpus" / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "golden").mkdir()
    shutil.copy(DATA / "golden" / "bare_refusal.jsonl", folder / "golden")
    return folder


@pytest.fixture(scope="module")
def trained(data, base, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "bundle"
    train(data, out, Recipe(base=base, epochs=2, folds=2, consistency=0.0, matrix_rate=1e-3))
    return out


def test_a_run_leaves_a_bundle_that_classifies(trained):
    classifier = Classifier.load(trained)
    keyword, text = classifier.classify(["退订", "今天天气不错"])
    assert keyword.action == "suppress"
    assert set(text.scores) == set(SCHEMA.names)


def test_what_the_cross_fitted_models_say_stands_beside_the_bundle(trained, data):
    lines = trained.with_name("bundle.held_out.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = {row["id"]: row for row in map(json.loads, lines)}
    rows = [r for r in dataset.read(data / "corpus", SCHEMA) if r.split != "test"]
    assert set(held_out) == {r.id for r in rows}
    assert all(set(row["scores"]) == set(SCHEMA.names) for row in held_out.values())
    assert not any("text" in row for row in held_out.values())


def test_the_report_covers_every_set_and_rival(trained):
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    assert set(report["sets"]) == {"validation", "test"}
    assert set(report["compared"]["test"]) == {
        "exact keyword list",
        "substring filter",
        "jieba baseline",
    }
    assert set(report["sets"]["test"]["labels"]) == set(SCHEMA.names)


def test_so_small_a_corpus_allows_no_automatic_suppression(trained):
    assert Bundle.load(trained).calibration.thresholds.suppress is None


def test_the_card_and_the_summary_say_so(trained):
    card = model_card(trained)
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    assert "The evidence is too small" in card
    assert "too little evidence" in summary(report)
    assert all(f"| {name} |" in card for name in SCHEMA.names)


def test_the_card_shows_behaviours_noise_and_mistakes_and_draws_the_same_plot_twice(
    trained, tmp_path
):
    plots = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_card(trained, tmp_path / name / "CARD.md")
        plots.append((tmp_path / name / "calibration.svg").read_bytes())
    assert plots[0] == plots[1]
    card = (tmp_path / "one" / "CARD.md").read_text(encoding="utf-8")
    assert card == model_card(trained)
    assert "| bare_refusal |" in card
    assert "| homophone |" in card
    assert "| missed |" in card


def test_a_faulty_golden_case_is_refused_before_training(data, base, tmp_path):
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    (broken / "golden" / "a.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(dataset.DatasetError, match=r"a\.jsonl:1"):
        train(broken, tmp_path / "bundle", Recipe(base=base, epochs=1, folds=2))


def test_a_failed_run_leaves_the_old_bundle_alone(data, base, trained, tmp_path):
    out = tmp_path / "bundle"
    shutil.copytree(trained, out)
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    with (broken / "corpus" / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write("{}\n")
    with pytest.raises(dataset.DatasetError):
        train(broken, out, Recipe(base=base, epochs=1, folds=2))
    assert Bundle.load(out).version == Bundle.load(trained).version


def test_the_same_seed_gives_the_same_weights(rows, base):
    recipe = Recipe(base=base, epochs=1, folds=2)
    first, second = (finetune(rows[:64], SCHEMA, recipe) for _ in range(2))
    assert np.array_equal(first.logits(["别再发了"]), second.logits(["别再发了"]))


def test_training_lowers_the_loss(rows, base):
    recipe = Recipe(base=base, epochs=4, noise=0.0, averaging=0.0)
    losses = finetune(rows[:200], SCHEMA, recipe).losses
    assert losses[-1] < losses[0]


def test_cross_fitting_scores_every_row_once(rows, base):
    logits = cross_fit(rows[:60], SCHEMA, Recipe(base=base, epochs=1, folds=3))
    assert logits.shape == (60, len(SCHEMA.names))
    assert (np.abs(logits).sum(1) > 0).all()


def test_logits_are_the_sum_of_what_the_characters_contribute(base):
    network, tokenizer, _ = load_base(base, len(SCHEMA.names), dropout=0.0)
    network.eval()
    ids = torch.tensor([tokenizer.encode("别再发了").ids])
    with torch.no_grad():
        logits, contributions = network(ids, torch.ones_like(ids))
    assert torch.allclose(logits, contributions.sum(1) + network.bias, atol=1e-5)
    assert contributions[0, [0, -1]].abs().max() < 1e-6  # [CLS] and [SEP] are no part of the text


def test_padding_changes_nothing(base):
    network, tokenizer, pad = load_base(base, len(SCHEMA.names), dropout=0.0)
    assert isinstance(network, ReplyEncoder)
    network.eval()
    ids = tokenizer.encode("没钱还").ids
    padded = torch.tensor([[*ids, *[pad] * 7]])
    mask = torch.tensor([[1] * len(ids) + [0] * 7])
    with torch.no_grad():
        alone = network(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64))[0]
        assert torch.allclose(network(padded, mask)[0], alone, atol=1e-5)


def test_an_encoder_that_is_nowhere_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderUnreachable, match=r"hf download .* --base FOLDER"):
        load_base("no-such/encoder", 3, 0.1)


def test_the_command_reports_a_faulty_corpus_in_a_line(tmp_path):
    shutil.copytree(DATA, tmp_path / "data", ignore=shutil.ignore_patterns("*.jsonl"))
    result = CliRunner().invoke(app, ["train", "--data", str(tmp_path / "data")])
    assert result.exit_code == 1
    assert "no *.jsonl" in result.output


def test_the_corpus_commands_work():
    runner = CliRunner()
    assert "无误" in runner.invoke(app, ["data", "check"]).output
    assert "| opt_out |" in runner.invoke(app, ["data", "stats"]).output

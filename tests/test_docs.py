"""Documentation cannot drift: what the docs say is compared with what the code does."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from model.bundle import SHIPPED, Bundle
from model.labels import Schema
from model.policy import Policy
from serving.metrics import Metrics
from serving.settings import Settings
from serving.targets.config import read_targets
from serving.targets.opening import ADAPTERS
from tingxin import app
from training.card import model_card

ROOT = Path(__file__).parents[1]
README, CHINESE = ((ROOT / n).read_text(encoding="utf-8") for n in ("README.md", "README.zh-CN.md"))
SCHEMA = Schema.read(ROOT / "data" / "labels.toml")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md"]


def blocks(text: str) -> list[str]:
    return re.findall(r"```\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_the_readmes_example_is_what_the_command_prints(text):
    example = next(b for b in blocks(text) if b.startswith("$ printf"))
    command, *expected = example.splitlines()
    texts, pipe = command.removeprefix("$ printf '").split("' | ", 1)
    assert pipe == "tingxin classify - --brief"
    done = subprocess.run(
        [sys.executable, "-m", "tingxin", "classify", "-", "--brief"],
        input=texts.replace("\\n", "\n").encode(),
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.decode("utf-8").splitlines() == expected


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_the_readmes_name_every_label(text):
    assert all(f"`{name}`" in text for name in SCHEMA.names)


def test_the_readme_says_what_each_file_of_the_model_is():
    files = {p.name for p in (ROOT / "model").glob("*.py")} - {"__init__.py"}
    assert files == set(re.findall(r"`(\w+\.py)`[:,]", README.split("## How it is built")[1]))


def test_every_make_target_in_the_docs_exists():
    targets = set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for page in PAGES:
        named = re.findall(
            r"(?:^|`)make ([a-z]+)\b", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert set(named) <= targets, page.name


def test_every_command_in_the_docs_exists():
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    for page in PAGES:
        named = re.findall(
            r"(?:^|`)tingxin ([a-z][a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert set(named) <= commands, page.name


def test_the_readme_lists_every_setting():
    named = set(re.findall(r"`TINGXIN_([A-Z_]+)`", README))
    assert {name.lower() for name in named} == set(Settings.model_fields)


def test_the_targets_in_the_docs_are_ones_that_are_read(tmp_path):
    operations = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    file = tmp_path / "targets.toml"
    file.write_text(re.search(r"```toml\n(.*?)```", operations, re.DOTALL)[1], encoding="utf-8")
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    secrets = {f"TINGXIN_SECRET_{name}": secret for name in ("CRM", "TWILIO_US", "BAIDU")}
    targets = read_targets(file, secrets)
    assert {target.kind for target in targets} == set(ADAPTERS)
    own = {key for target in targets for key in type(target).model_fields}
    explained = set(re.findall(r"`([a-z_]+)`", operations))
    assert own - {"name", "kind", "secret"} <= explained


def test_the_metrics_in_the_docs_exist():
    operations = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (?:p99|above|0:|a rate)", operations, re.MULTILINE)
    names = {metric.name for metric in Metrics().registry.collect()}
    assert len(rows) == 9
    assert {row.removesuffix("_total") for row in rows} <= names


def test_the_dashboard_shows_metrics_that_exist():
    board = json.loads((ROOT / "docs" / "grafana.json").read_text(encoding="utf-8"))
    samples = set()
    for metric in Metrics().registry.collect():
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
        samples |= {metric.name + end for end in ends.get(metric.type, [""])}
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    language = {"histogram_quantile", "rate", "sum", "max", "min", "by"}
    named = set()
    for expression in shown:
        bare = re.sub(r"\{.*?\}|\[.*?\]|by \(.*?\)", "", expression)
        named |= set(re.findall(r"[a-z_]{2,}", bare)) - language
    assert named <= samples
    # And what there is to be measured is shown.
    bases = {re.sub("_(total|bucket|count|sum)$", "", sample) for sample in samples}
    assert bases == {re.sub("_(total|bucket)$", "", name) for name in named}


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_no_placeholder_is_left():
    for page in PAGES:
        assert not re.search(r"<!--|\b[A-Z]+_ROW\b", page.read_text(encoding="utf-8")), page.name


def test_the_model_card_is_that_of_the_shipped_bundle():
    assert (ROOT / "docs" / "MODEL_CARD.md").read_text(encoding="utf-8") == model_card(SHIPPED)


def test_the_datasheet_counts_the_corpus():
    from typer.testing import CliRunner

    datasheet = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for command in ("stats", "coverage"):
        shown = CliRunner().invoke(app, ["data", command])
        assert shown.exit_code == 0, shown.output
        assert shown.output.strip() in datasheet


def test_every_queue_of_the_policy_is_explained_by_a_note():
    policy = Policy.read(ROOT / "data" / "policy.toml", SCHEMA)
    assert all(route.note for route in policy.routes)
    assert Bundle.load().policy == policy

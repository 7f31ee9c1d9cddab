"""The arrows between the parts, held by a test: training → model ← serving, and serving never loads torch."""

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {"model": {"model"}, "training": {"training", "model"}, "serving": {"serving", "model"}}
HEAVY = {"torch", "transformers", "sklearn", "jieba", "accelerate", "datasets"}
# What only training may use, although it lives in model/ because it says what a reply means.
TRAINING_ONLY = {"model/encoder.py", "model/baseline.py"}


def imports(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module.split(".")[0])
    return found


FILES = [p for part in ALLOWED for p in sorted((ROOT / part).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT).parts[0]
    assert imports(path) & set(ALLOWED) <= ALLOWED[part]


LIGHT = [
    p
    for p in FILES
    if p.relative_to(ROOT).parts[0] != "training"
    and p.relative_to(ROOT).as_posix() not in TRAINING_ONLY
]


@pytest.mark.parametrize("path", LIGHT, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_serving_needs_imports_nothing_heavy(path):
    assert not imports(path) & HEAVY


def test_classifying_and_serving_load_no_torch():
    code = (
        "import sys; import tingxin, model.classifier, serving.api;"
        f"loaded = {HEAVY!r} & set(sys.modules); sys.exit(f'loaded {{loaded}}' if loaded else 0)"
    )
    # tingxin mounts training's commands where torch is installed; mounting must not load it either.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_other_distribution_owns_our_package_names():
    owners = packages_distributions()
    for name in (*ALLOWED, "tingxin"):
        assert set(owners.get(name, ["tingxin"])) == {"tingxin"}


def test_data_holds_no_code():
    assert not list((ROOT / "data").rglob("*.py"))

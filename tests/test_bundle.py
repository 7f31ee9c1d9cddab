import json
import shutil

import pytest

from model.bundle import ENCODER, MANIFEST, SHIPPED, TOKENIZER, Bundle, BundleError, write_manifest
from model.classifier import Classifier


@pytest.fixture
def copy(tmp_path):
    target = tmp_path / "bundle"
    shutil.copytree(SHIPPED, target)
    return target


def test_the_shipped_bundle_loads_and_is_small():
    bundle = Bundle.load()
    assert len(bundle.schema.names) == 13
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) <= 10_000_000


def test_every_file_of_the_bundle_is_hashed():
    manifest = json.loads((SHIPPED / MANIFEST).read_text(encoding="utf-8"))
    assert set(manifest["files"]) == {p.name for p in SHIPPED.iterdir()} - {MANIFEST}


@pytest.mark.parametrize("name", [ENCODER, TOKENIZER, "policy.toml", "calibration.json"])
def test_a_changed_file_is_refused_by_name(copy, name):
    with (copy / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=rf"{name}: was changed"):
        Bundle.load(copy)


def test_a_missing_file_is_refused_by_name(copy):
    (copy / "rules.toml").unlink()
    with pytest.raises(BundleError, match=r"rules\.toml: is missing"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "no manifest"), ("{", "not JSON"), ('{"format": 99}', "format 99")],
)
def test_a_directory_without_a_readable_manifest_is_no_bundle(copy, content, fault):
    (copy / MANIFEST).unlink()
    if content is not None:
        (copy / MANIFEST).write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=fault):
        Bundle.load(copy)


def test_an_encoder_that_is_no_encoder_is_refused(copy):
    (copy / ENCODER).write_bytes(b"not onnx")
    provenance = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))["provenance"]
    write_manifest(copy, provenance)
    with pytest.raises(BundleError, match="the encoder does not load"):
        Classifier.load(copy)


def test_keywords_are_honoured_without_an_encoder(copy):
    (copy / ENCODER).unlink()
    classifier = Classifier.load_keywords(copy)
    keyword, other, blank = classifier.classify(["退订", "你们别再发了", " "])
    assert not classifier.reads_free_text
    assert keyword.action == "suppress"
    assert other.action == "review"
    assert blank.action == "none"


def test_the_tables_in_the_bundle_are_those_of_data():
    data = SHIPPED.parents[1] / "data"
    for name in ("labels.toml", "rules.toml", "folds.tsv", "policy.toml"):
        assert (SHIPPED / name).read_bytes() == (data / name).read_bytes(), f"{name}: retrain"

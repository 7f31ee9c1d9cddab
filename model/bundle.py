"""The bundle: the directory that is all of training that serving sees, with a hash for every file.

encoder.onnx      int8 weights: ids [B, L], attention mask [B, L] → logits [B, C], contributions [B, L, C]
tokenizer.json    as the `tokenizers` library reads it
labels.toml rules.toml folds.tsv policy.toml     copies of data/ as they were at training time
calibration.json  temperatures and thresholds, with the evidence behind them
report.json       the evaluation
manifest.json     version, provenance, SHA-256 of every file above; written last
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model.labels import Schema
from model.policy import Policy, Thresholds
from model.rules import Rules
from model.text import Folds

FORMAT = 1
SHIPPED = Path(__file__).parent / "bundle"
ENCODER, TOKENIZER, MANIFEST = "encoder.onnx", "tokenizer.json", "manifest.json"


class BundleError(RuntimeError):
    """A bundle is missing, incomplete, changed since it was written, or of another format."""


@dataclass(frozen=True)
class Calibration:
    """A temperature and bias per label (logit / temperature + bias → probability), and the thresholds."""

    temperatures: dict[str, float]
    biases: dict[str, float]
    thresholds: Thresholds

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Calibration":
        chosen = document["thresholds"]
        return cls(
            document["temperatures"],
            document["biases"],
            Thresholds(chosen["labels"], chosen["suppress"], chosen["hold"]),
        )


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, its small files read. `version` names it in every receipt."""

    path: Path
    version: str
    manifest: dict[str, Any]
    schema: Schema
    rules: Rules
    policy: Policy
    calibration: Calibration

    @classmethod
    def load(cls, path: Path = SHIPPED, without: Collection[str] = ()) -> "Bundle":
        """Verify every hash and read the small files; raise BundleError with the file and the remedy.

        Files named in `without` are not verified: the caller does without them.
        """
        manifest_path = path / MANIFEST
        if not manifest_path.is_file():
            raise BundleError(
                f"{path}: no {MANIFEST}; this is not a bundle, or its writing was cut off"
            )
        try:
            manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BundleError(f"{manifest_path}: not JSON ({error}); restore the bundle") from error
        if manifest.get("format") != FORMAT:
            raise BundleError(
                f"{manifest_path}: format {manifest.get('format')}, this version reads {FORMAT}; retrain"
            )
        for name, expected in manifest["files"].items():
            if name in without:
                continue
            found = _sha256(path / name) if (path / name).is_file() else None
            if found != expected["sha256"]:
                fault = "is missing" if found is None else "was changed after it was written"
                raise BundleError(f"{path / name}: {fault}; restore the bundle, or retrain it")
        schema = Schema.read(path / "labels.toml")
        folds = Folds.read(path / "folds.tsv")
        return cls(
            path=path,
            version=manifest["version"],
            manifest=manifest,
            schema=schema,
            rules=Rules.read(path / "rules.toml", folds),
            policy=Policy.read(path / "policy.toml", schema),
            calibration=Calibration.from_json(
                json.loads((path / "calibration.json").read_text(encoding="utf-8"))
            ),
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(path: Path, provenance: dict[str, Any]) -> str:
    """Hash every file in a bundle directory, write its manifest, and return the version it names.

    The version is the date and the first digits of a hash over all file hashes, so equal bundles
    of one day carry equal versions.
    """
    files = {
        p.name: {"sha256": _sha256(p), "bytes": p.stat().st_size}
        for p in sorted(path.iterdir())
        if p.is_file() and p.name != MANIFEST
    }
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    now = datetime.now(UTC)
    version = f"{now:%Y.%m.%d}-{digest[:8]}"
    manifest = {
        "format": FORMAT,
        "version": version,
        "created": now.isoformat(timespec="seconds"),
        "provenance": provenance,
        "files": files,
    }
    draft = path / (MANIFEST + ".draft")
    draft.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path / MANIFEST)
    return version

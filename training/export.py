"""Write a trained network as a bundle: int8 ONNX weights, tokenizer, the tables of data/, calibration."""

import json
import logging
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from model.bundle import ENCODER, TOKENIZER
from training.finetune import Trained, collate

TABLES = ("labels.toml", "rules.toml", "folds.tsv", "policy.toml")
EXAMPLE = [
    [2, 7, 8, 9, 3],
    [2, 7, 3],
]  # any ids do: only the shapes are traced, both of them dynamic
AGREES = 1e-3  # largest difference between torch's and ONNX's fp32 logits that rounding explains


class ExportError(RuntimeError):
    """The exported graph does not answer as the network does."""


def export_onnx(trained: Trained, path: Path) -> None:
    """Write the network as fp32 ONNX with dynamic batch and length, and check that it answers alike."""
    network = trained.network.eval()
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # it warns of operators of absent packages
    example = collate(EXAMPLE, trained.pad)
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():  # the exporter warns of its own internals
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            example,
            dynamo=True,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits", "contributions"],
            dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
            verbose=False,
        )
    assert program is not None  # noqa: S101  (dynamo=True returns a program; the annotation allows for the old path)
    program.save(path)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # Another shape than the traced one: a dimension frozen by mistake fails here.
    ids, mask = collate([[2, *range(5, 25), 3], [2, 7, 8, 3], [2, 9, 3]], trained.pad)
    found = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    with torch.no_grad():
        expected = network(ids, mask)[0].numpy()
    if not np.allclose(found, expected, atol=AGREES):
        raise ExportError(f"{path}: ONNX logits differ by {np.abs(found - expected).max():.4f}")


def write_parts(trained: Trained, data: Path, calibration: dict[str, Any], out: Path) -> None:
    """Write every file of a bundle but its report and manifest into an empty directory."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        plain, prepared = Path(scratch) / "plain.onnx", Path(scratch) / "prepared.onnx"
        export_onnx(trained, plain)
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            str(prepared), str(out / ENCODER), per_channel=True, weight_type=QuantType.QInt8
        )
    trained.tokenizer.save(str(out / TOKENIZER))
    for name in TABLES:
        shutil.copyfile(data / name, out / name)
    text = json.dumps(calibration, indent=1, ensure_ascii=False)
    (out / "calibration.json").write_text(text + "\n", encoding="utf-8")

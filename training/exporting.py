"""A run's model as a file that runs without this package: `python -m training.evaluate export RUN --to {pt2,onnx}`.

Shape legend: T frames, J joints, C coordinates.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.export import ExportedProgram

import hitrs_fast as hf
from hitrs_fast.export import SingleSequence, export
from hitrs_fast.hub import HEADS, about_of

from .data.records import DataError
from .setup import read_pretrained

TOLERANCE = 1e-4  # of the outputs, against eager mode
LENGTHS = (1, 2, 7, 13, 14, 40, 80, 81, 150, 300)  # frames, on which the file is checked
NEEDED = ("onnx", "onnxscript", "onnxruntime")
MODELS: dict[str, Any] = {cls.__name__: cls for cls in (hf.Recognizer, hf.FrameClassifier)}
Call = Callable[[Tensor], Tensor]


def export_run(run: Path, to: str, out: Path) -> float:
    """Writes the file, whole or not at all, checks it, and returns its largest difference from eager mode.

    Its input is `[T, J, C]` float32, one body's coordinates in metres as recorded; its output the logits of a
    recogniser or detector, or an encoder's embedding. DataError for a run that cannot be read, an extra that is not
    installed, a file that exists, or outputs that differ.
    """
    if out.exists():
        raise DataError(f"{out} exists already; give another --out")
    if to == "onnx" and (missing := [name for name in NEEDED if not find_spec(name)]):
        raise DataError(f"ONNX needs {', '.join(missing)}, not installed here: pip install 'hitrs-fast[export]'")
    model = read_model(run)
    program = export(model)
    partial = out.with_name(out.name + ".partial")
    try:
        load = _write_onnx(program, partial) if to == "onnx" else _write_pt2(program, partial)
        difference = largest_difference(SingleSequence(model), load)
        if not difference <= TOLERANCE:  # NaN is no agreement
            raise DataError(f"{out}: its outputs differ by {difference:.1e} from the model's; it was not written")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return difference


def read_model(run: Path) -> hf.HiTRS | hf.Recognizer | hf.FrameClassifier:
    """The recogniser or detector of a finished run, or else its encoder."""
    kind = None
    if (run / HEADS).is_file():
        try:
            with safe_open(run / HEADS, "pt") as file:
                kind = about_of(file.metadata()).get("model")
        except SafetensorError as error:
            raise DataError(f"{run / HEADS} is damaged ({error})") from error
    return read_pretrained(MODELS.get(str(kind), hf.HiTRS), run).eval()


def _write_pt2(program: ExportedProgram, file: Path) -> Call:
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:  # torch wants the ending .pt2
        torch.export.save(program, Path(folder) / "model.pt2")
        loaded = torch.export.load(Path(folder) / "model.pt2").module()
        os.replace(Path(folder) / "model.pt2", file)
    return loaded


def _write_onnx(program: ExportedProgram, file: Path) -> Call:
    import onnxruntime

    with contextlib.redirect_stdout(sys.stderr):
        made = torch.onnx.export(program, input_names=["frames"], output_names=["output"], verbose=False)
    assert made is not None
    made.save(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda frames: torch.from_numpy(session.run(None, {"frames": frames.numpy()})[0])


@torch.no_grad()
def largest_difference(eager: SingleSequence, loaded: Call) -> float:
    """Over random sequences of LENGTHS that the model takes."""
    c = eager.encoder.config
    generator = torch.Generator().manual_seed(0)
    worst = []
    for length in _within(eager.longest):
        frames = torch.randn(length, c.joints, c.channels, generator=generator)
        worst.append((eager(frames) - loaded(frames)).abs().max())
    return float(torch.stack(worst).max())  # torch's max, unlike Python's, is NaN where one is


def _within(longest: int | None) -> Iterator[int]:
    return (length for length in LENGTHS if longest is None or length <= longest)

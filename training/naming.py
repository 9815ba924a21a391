"""Names the actions in new recordings with a finished run: `python -m training.recognize --predict RUN FILE...`.

Shape legend: T frames, J joints, C coordinates, K classes.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hitrs_fast import HiTRS, Recognizer
from hitrs_fast.clips import Windows
from hitrs_fast.mapping import check_layout

from .data.loader import side_by_side
from .data.readers.arrays import ArraysReader
from .data.readers.folder import read_json
from .data.readers.ntu import tracks
from .data.readers.plain import PlainReader
from .data.readers.skeleton_text import parse_skeleton
from .data.records import DataError, Sample
from .data.records import Sequence as Track
from .metrics.classes import softmax
from .scores import SHOWN
from .setup import load_heads, read_encoder, run_record

SUFFIXES = (".skeleton", ".npy", ".npz", ".csv", ".json")
TIMED = 5  # repetitions of the first recording, whose median is the latency
log = logging.getLogger(__name__)


def name_actions(paths: Sequence[Path], device: torch.device) -> None:
    """Prints the five most probable actions of each recording, the latency, and one line of JSON with the first."""
    if len(paths) < 2:
        raise DataError("--predict takes a run and at least one recording: --predict RUN FILE...")
    run, *files = paths
    model, classes = read_recognizer(run, device)
    recordings = [sample for file in files for sample in read_recording(file, model.encoder)]
    found: list[dict[str, Any]] = []
    for sample in recordings:
        probability = softmax(scores_of(model, sample, device))
        best = np.argsort(-probability, kind="stable")[:SHOWN].tolist()
        listed = "  ".join(f"{classes[c]} {probability[c]:.3f}" for c in best)
        print(f"{sample.name}: {listed}", file=sys.stderr)
        found.append(
            {"name": sample.name, "action": classes[best[0]], "probability": round(float(probability[best[0]]), 4)}
        )
    seconds = [timed(model, recordings[0], device) for _ in range(TIMED)]
    latency = 1000 * statistics.median(seconds)
    print(f"{recordings[0].name} of {recordings[0].frames} frames took {latency:.1f} ms on {device}", file=sys.stderr)
    print(json.dumps({"recordings": found, "latency_ms": round(latency, 2)}))


def timed(model: Recognizer, sample: Sample, device: torch.device) -> float:
    begin = time.perf_counter()
    scores_of(model, sample, device)
    return time.perf_counter() - begin


def read_recognizer(run: Path, device: torch.device) -> tuple[Recognizer, list[str]]:
    """The recogniser of a finished run, without dropout, and its classes."""
    record = run_record(run)
    model = Recognizer(read_encoder(run), len(record["classes"]), record["recipe"]["bodies"])
    load_heads(model, run)
    return model.to(device).eval(), record["classes"]


@torch.inference_mode()
def scores_of(model: Recognizer, sample: Sample, device: torch.device) -> np.ndarray:
    """Logits `[K]` of one recording."""
    joints = [track.joints for track in sample.sequences]
    cuts = zip(*side_by_side(np.array([len(track) for track in joints])), strict=True)
    pieces = [joints[track][first : first + length] for track, first, length in cuts]
    frames = torch.from_numpy(np.concatenate(pieces)).to(device)
    lengths = torch.tensor([len(piece) for piece in pieces], device=device)
    owner = torch.zeros_like(lengths)
    prepared: Tensor = model.encoder.prepare(frames, lengths)
    return model(prepared, lengths, owner, 1)[0].float().cpu().numpy()


def read_recording(file: Path, encoder: HiTRS) -> Iterator[Sample]:
    """The samples of a file (an .npz may hold several), checked against the encoder.

    DataError for another format, layout or number of coordinates, and for a recording without a body.
    """
    config = encoder.config
    if not file.is_file() or file.suffix not in SUFFIXES:
        raise DataError(f"{file}: is no file with one of the endings {', '.join(SUFFIXES)}")
    for sample in _samples(file, encoder):
        if not sample.sequences or not any(track.joints.any() for track in sample.sequences):
            raise DataError(f"{file}: {sample.name} has no body in it, so there is nothing to name")
        shape = sample.sequences[0].joints.shape[1:]
        if shape != (config.joints, config.channels):
            raise DataError(
                f"{file}: has {shape[0]} joints with {shape[1]} coordinates; the run's layout {config.layout.name!r} "
                f"has {config.joints} with {config.channels}"
            )
        windows: Windows = encoder.windows()
        if sample.frames < (needed := (windows.window - 1) * windows.dilate + 1):
            log.warning(
                "%s has %d frames, fewer than a clip's %d: the rest counts as empty", sample.name, sample.frames, needed
            )
        yield sample


def _samples(file: Path, encoder: HiTRS) -> Iterator[Sample]:
    layout = encoder.config.layout
    if file.suffix == ".skeleton":
        recording = parse_skeleton(file.read_bytes(), str(file))
        yield Sample(file.stem, recording.frames, tracks(recording))
    elif file.suffix == ".json":
        joints = _json_joints(file)
        yield Sample(file.stem, len(joints), [Track(joints)])
    elif file.suffix == ".npz":
        reader = ArraysReader(file, strict=True)
        try:
            check_layout(layout, reader.source.layout, str(file))
        except ValueError as error:
            raise DataError(str(error).partition(" Map the frames")[0]) from error
        yield from reader
    else:
        yield from PlainReader(file, layout.name, strict=True)


def _json_joints(file: Path) -> np.ndarray:
    """`[T, J, C]` float32: the list of frames itself, or under "skeletons" (as in NW-UCLA's files) or "keypoints"."""
    content = read_json(file)
    if isinstance(content, dict):
        content = content.get("skeletons", content.get("keypoints"))
    try:
        joints = np.array(content, np.float32)
    except (ValueError, TypeError) as error:
        raise DataError(f"{file}: is not a list of frames of joints of numbers ({error})") from error
    if joints.ndim != 3 or not joints.size:
        raise DataError(
            f"{file}: is not a list of frames, each a list of joints, each a list of numbers; it may be under "
            f'"skeletons" or "keypoints"'
        )
    if not np.isfinite(joints).all():
        raise DataError(f"{file}: has nan or infinite numbers")
    return joints

"""Checkpoints of a run: the full training state, written whole or not at all, checked before use.

A checkpoint is a folder `checkpoints/step-NNNNNNN` with `state.pt` (weights, optimiser, position of the loader; read
with `weights_only`) and a manifest with checksums. Random numbers need no state: each step seeds its own.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from .data.manifest import file_problems, read_manifest, sync_folder, write_manifest
from .data.records import DataError

KEPT = 3
KIND = "hitrs_fast checkpoint"
log = logging.getLogger(__name__)


def save_checkpoint(run: Path, step: int, state: dict[str, Any]) -> None:
    """Writes `step-NNNNNNN` and removes all but the newest KEPT checkpoints."""
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    target = folder / f"step-{step:07d}"
    partial = target.with_suffix(".partial")
    for leftover in (partial, target):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir()
    torch.save(state, partial / "state.pt")
    write_manifest(partial, {"step": step}, KIND)
    os.rename(partial, target)
    sync_folder(folder)
    for old in checkpoints(run)[:-KEPT]:
        shutil.rmtree(old)


def checkpoints(run: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first."""
    return sorted(p for p in (run / "checkpoints").glob("step-*") if p.suffix != ".partial")


def load_checkpoint(run: Path, device: torch.device) -> dict[str, Any] | None:
    """The state of the newest undamaged checkpoint; damaged ones are named and passed over. None if there is none."""
    for folder in reversed(checkpoints(run)):
        try:
            problems = file_problems(folder, read_manifest(folder, KIND), read=lambda _: True)
        except DataError:
            problems = ["its manifest is missing or damaged"]
        if not problems:
            return torch.load(folder / "state.pt", map_location=device, weights_only=True)
        log.warning("%s is damaged and passed over: %s", folder, problems[0])
    return None

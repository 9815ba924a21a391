"""Checkpoints of a run: the full training state, written whole or not at all, checked before use.

A checkpoint is a folder `checkpoints/step-NNNNNNN` with `state.pt` (weights, optimiser, position of the loader; read
with `weights_only`) and a manifest with checksums. Random numbers need no state: each step seeds its own.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import torch

from .data.manifest import file_problems, read_manifest, sync_folder, write_manifest
from .data.records import DataError

KEPT = 3
KIND = "hitrs_fast checkpoint"
log = logging.getLogger(__name__)


class Saver:
    """Writes a run's checkpoints in the background: the training waits only for a copy of its state in memory."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Begins to write; first waits for the checkpoint before this one."""
        self.warn()
        copy = io.BytesIO()
        torch.save(state, copy)
        # A daemon, so that a second Ctrl-C need not wait for the disk: what it leaves half done is no checkpoint.
        self.thread = threading.Thread(target=self._write, args=(step, copy), daemon=True)
        self.thread.start()

    def _write(self, step: int, copy: io.BytesIO) -> None:
        try:
            save_checkpoint(self.run, step, copy)
        except Exception as error:
            self.error = error

    def finish(self) -> None:
        """Waits until the last checkpoint is on the disk. Raises what kept it from getting there."""
        if self.thread is not None:
            self.thread.join()
        error, self.thread, self.error = self.error, None, None
        if error is not None:
            raise error

    def warn(self) -> None:
        """Waits likewise; a disk that is full is only a warning."""
        try:
            self.finish()
        except OSError as error:
            log.warning("no checkpoint could be written (%s): the training goes on, older ones are whole", error)


def save_checkpoint(run: Path, step: int, state: io.BytesIO) -> None:
    """Writes `step-NNNNNNN` and removes all but the newest KEPT checkpoints. Where it fails it leaves nothing."""
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    target = folder / f"step-{step:07d}"
    for leftover in [*folder.glob("*.partial"), target]:
        if leftover.exists():
            shutil.rmtree(leftover)
    partial = target.with_suffix(".partial")
    try:
        partial.mkdir()
        (partial / "state.pt").write_bytes(state.getbuffer())
        write_manifest(partial, {"step": step}, KIND)
        os.rename(partial, target)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
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


def remove_after(run: Path, step: int) -> None:
    """Removes checkpoints of later steps than the one that a run goes on from: damaged ones, which would count."""
    for folder in checkpoints(run):
        if folder.name > f"step-{step:07d}":
            shutil.rmtree(folder)

"""Faults, injected: signals, a full disk, numbers that are not finite."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from run_cases import arguments, assert_same, logged, pretrained, state_of, tiny_models, tiny_store
from torch import Tensor

from training import checkpoint
from training.checkpoint import checkpoints
from training.faults import PATIENCE, NonFinite
from training.loop import Trainer
from training.pretrain import PretrainTask


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models(monkeypatch)


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        tiny_models(patch)
        return pretrained(store, tmp_path_factory.mktemp("whole") / "run", "--steps", "6", "--checkpoint-every", "2")


def signalled(monkeypatch: pytest.MonkeyPatch, *signals: signal.Signals) -> None:
    """The next run gets these signals in its third step."""
    whole = Trainer.train_step

    def train_step(self: Trainer) -> int:
        if self.step == 2:
            for which in signals:
                os.kill(os.getpid(), which)
        return whole(self)

    monkeypatch.setattr(Trainer, "train_step", train_step)


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_well(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    which: signal.Signals,
) -> None:
    signalled(monkeypatch, which)
    run = pretrained(store, tmp_path / "run", "--steps", "6")  # returns: exit code 0
    said = capfd.readouterr().err
    assert f"stopped by {which.name} after step 3 of 6" in said and "--resume" in said and "stopping after" in said
    assert [path.name[-1] for path in checkpoints(run)] == ["3"] and (run / "model.safetensors").exists()


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_after_that_leaves_at_once(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: signal.Signals
) -> None:
    signalled(monkeypatch, first, signal.SIGTERM, signal.SIGINT)
    with pytest.raises(SystemExit) as stop:
        pretrained(store, tmp_path / "run", "--steps", "6", "--checkpoint-every", "1")
    assert stop.value.code == 130
    assert checkpoints(tmp_path / "run")[0].name == "step-0000001"  # the second may still be on its way


def test_handlers_are_put_back(whole: Path) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not torch.are_deterministic_algorithms_enabled()


def full_from(monkeypatch: pytest.MonkeyPatch, first: int, last: int) -> None:
    """A disk that fills while the checkpoints of these steps are written, after their first half."""
    write = checkpoint.write_manifest

    def write_manifest(folder: Path, counts: dict[str, int], kind: str) -> str:
        if first <= counts["step"] <= last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        return write(folder, counts, kind)

    monkeypatch.setattr(checkpoint, "write_manifest", write_manifest)


def test_a_full_disk_leaves_older_checkpoints_whole(
    store: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full_from(monkeypatch, 4, 4)
    run = pretrained(store, tmp_path / "run", "--steps", "6", "--checkpoint-every", "2")
    assert [path.name[-1] for path in (run / "checkpoints").iterdir() if path.is_dir()] in (["2", "6"], ["6", "2"])
    assert "no checkpoint could be written" in caplog.text and "No space left" in caplog.text
    assert_same(run, whole)


def test_what_cannot_be_saved_is_no_good_end(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full_from(monkeypatch, 3, 3)
    signalled(monkeypatch, signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        pretrained(store, tmp_path / "run", "--steps", "6", "--checkpoint-every", "2")
    assert stop.value.code == 2 and "No space left" in capsys.readouterr().err
    assert state_of(tmp_path / "run")["step"] == 2


@pytest.mark.slow
def test_a_file_that_cannot_grow(store: Path, tmp_path: Path) -> None:
    """The system's own refusal: files of this process may have so many bytes, as on a disk that is nearly full."""
    code = (
        "import resource, pytest, run_cases; from training.pretrain import main;"
        "run_cases.tiny_models(pytest.MonkeyPatch()); resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        f"main({arguments(store, tmp_path / 'run', '--steps', '6', '--checkpoint-every', '2')!r})"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False
    )
    assert "no checkpoint could be written" in ended.stderr and "File too large" in ended.stderr
    assert logged(tmp_path / "run")[-1]["step"] == 6
    assert not list((tmp_path / "run/checkpoints").iterdir())


def poisoned(monkeypatch: pytest.MonkeyPatch, steps: range, of: Callable[[Tensor], Tensor]) -> None:
    """These steps of the next runs have `of(loss)` instead of their loss."""
    losses, count = PretrainTask.losses, iter(range(1000))

    def broken(self: PretrainTask, model, batch, training: bool) -> dict[str, Tensor]:
        out = losses(self, model, batch, training)
        if training and next(count) in steps:
            out["loss"] = of(out["loss"])
        return out

    monkeypatch.setattr(PretrainTask, "losses", broken)


class InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad * float("inf")


@pytest.mark.parametrize("of", [lambda loss: loss * float("nan"), InfiniteGradient.apply], ids=["loss", "gradient"])
def test_a_step_that_is_not_finite_is_left_out(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: Callable[[Tensor], Tensor]
) -> None:
    poisoned(monkeypatch, range(2, 4), of)
    run = pretrained(store, tmp_path / "run", "--steps", "5", "--checkpoint-every", "2")
    train = [line for line in logged(run) if line["split"] == "train"]
    assert [line["skipped"] for line in train] == [0, 0, 1, 2, 2]
    state = state_of(run)
    assert all(t.isfinite().all() for t in state["model"].values())
    assert {int(s["step"]) for s in state["optimizer"]["state"].values()} == {3}
    assert np.isfinite(train[-1]["loss"])


def test_after_many_in_a_row_it_ends_and_names_the_sequences(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned(monkeypatch, range(3, 100), lambda loss: loss * float("nan"))
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        pretrained(store, run, "--steps", "60", "--checkpoint-every", "3")
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert f"{PATIENCE + 1} steps in a row" in message and "nonfinite.json" in message  # looked at every sixth step
    report = json.loads((run / "nonfinite.json").read_text())["steps"]
    assert [each["step"] for each in report] == list(range(25 - PATIENCE, 25))
    names = {name for each in report for name in each["sequences"]}
    assert all(len(each["sequences"]) == 4 for each in report) and len(names) > 8
    assert state_of(run)["step"] == 21


def test_counts_begin_anew_after_a_good_step(tmp_path: Path) -> None:
    guard = NonFinite(torch.device("cpu"), lambda sequences: [])
    for bad in [1.0] * (PATIENCE - 1) + [0.0] + [1.0] * (PATIENCE - 1):
        guard.count(torch.tensor(bad), 0, np.zeros(0))
    assert guard.check(tmp_path) == 2 * PATIENCE - 2


def test_the_log_survives_a_full_disk(
    store: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from training.log import RunLog

    record = RunLog.record

    def full(self: RunLog, step: int, split: str, metrics: dict[str, float]) -> None:
        if step == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        record(self, step, split, metrics)

    monkeypatch.setattr(RunLog, "record", full)
    run = pretrained(store, tmp_path / "run", "--steps", "6", "--checkpoint-every", "2")
    assert "a line of the log could not be written" in caplog.text
    assert [line for line in logged(whole) if line["step"] != 3] == logged(run)

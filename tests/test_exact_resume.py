"""A run that was stopped, killed or resumed anywhere ends with the bits of the run that was not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from run_cases import arguments, assert_same, logged, pretrained, recognized, state_of, tiny_models, tiny_store

from training.checkpoint import checkpoints
from training.data.records import DataError
from training.loop import Trainer
from training.resume import check_identity


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_store(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models(monkeypatch)


def stopped_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """The next run gets a SIGTERM in the middle of that step."""
    whole = Trainer.train_step

    def train_step(self: Trainer) -> int:
        if self.step == steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.setattr(Trainer, "train_step", whole)
        return whole(self)

    monkeypatch.setattr(Trainer, "train_step", train_step)


@pytest.mark.parametrize("command", [pretrained, recognized])
def test_stopped_between_two_lines_of_the_log(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Path]
) -> None:
    """The log has a line every second step: the means of the steps before the stop have to be kept."""
    length = ["--steps", "20"] if command is pretrained else ["--epochs", "5"]
    whole = command(store, tmp_path / "whole", *length)
    stopped_after(monkeypatch, 7)
    cut = command(store, tmp_path / "cut", *length)
    assert state_of(cut)["step"] == 7 and logged(cut)[-1]["step"] == 6
    command(store, cut, *length, "--resume")
    assert_same(cut, whole)


def test_another_number_of_threads_differs_by_rounding_only(store: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    runs = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            runs.append(pretrained(store, tmp_path / str(threads), "--steps", "4"))
        finally:
            torch.set_num_threads(before)
    for one, three in zip(*map(logged, runs), strict=True):
        assert one.pop("split") == three.pop("split")
        assert one == pytest.approx(three, rel=1e-4, abs=1e-5)


def test_the_best_weights_are_those_of_the_lowest_validation_loss(store: Path, tmp_path: Path) -> None:
    run = pretrained(store, tmp_path / "run", "--steps", "6", "--validate-every", "2", "--checkpoint-every", "2")
    losses = {line["step"]: line["loss"] for line in logged(run) if line["split"] == "validation"}
    best = min(losses, key=lambda step: losses[step])
    assert state_of(run)["best"] == pytest.approx(losses[best], abs=1e-6)
    weights = (run / "best/model.safetensors").read_bytes()
    assert (weights == (run / "model.safetensors").read_bytes()) == (best == 6)
    assert {"config.json", "heads.safetensors"} <= {file.name for file in (run / "best").iterdir()}


def test_damaged_checkpoints_do_not_push_out_whole_ones(store: Path, tmp_path: Path) -> None:
    run = pretrained(store, tmp_path / "run", "--steps", "6", "--checkpoint-every", "2")
    for folder in checkpoints(run)[1:]:
        (folder / "state.pt").write_bytes(b"damaged")
    pretrained(store, run, "--steps", "6", "--checkpoint-every", "1", "--resume")
    assert [folder.name[-1] for folder in checkpoints(run)] == ["4", "5", "6"]
    assert state_of(run)["step"] == 6


NOW = {"store": "sha256:b", "precision": "bfloat16", "optim lr": "0.1"}


def test_what_may_be_overridden() -> None:
    run = Path("run")
    check_identity(run, NOW, NOW, [])
    then = NOW | {"store": "sha256:a", "precision": "float32"}
    with pytest.raises(
        DataError, match=r"store \(sha256:a, now sha256:b\), precision .* --override store=sha256:b prec"
    ):
        check_identity(run, then, NOW, [])
    with pytest.raises(DataError, match=r"another precision \(float32, now bfloat16\); .*--override precision"):
        check_identity(run, then, NOW, ["store=sha256:b"])
    check_identity(run, then, NOW, ["store=sha256:b", "precision=bfloat16"])
    with pytest.raises(DataError, match="this command has precision=bfloat16"):
        check_identity(run, then, NOW, ["precision=float32"])
    with pytest.raises(DataError, match="only store, buffer"):
        check_identity(run, NOW | {"optim lr": "1"}, NOW, ["optim lr=0.1"])
    with pytest.raises(DataError, match=r"another optim lr \(1, now 0.1\)$"):
        check_identity(run, NOW | {"optim lr": "1"}, NOW, [])


def test_overriding_goes_on_and_a_store_of_other_sequences_does_not(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_after(monkeypatch, 2)
    run = pretrained(store, tmp_path / "run", "--steps", "3")
    pretrained(store, run, "--steps", "3", "--resume", "--precision", "bf16", "--override", "precision=bfloat16")
    assert state_of(run)["step"] == 3 and state_of(run)["identity"]["precision"] == "bfloat16"
    (tmp_path / "other").mkdir()
    other = tiny_store(tmp_path / "other", seed=1)
    with pytest.raises(SystemExit):
        pretrained(other, run, "--steps", "3", "--resume", "--precision", "bf16")
    message = capsys.readouterr().err
    assert "store (sha256:" in message and "sequences" not in message and "--override store=sha256:" in message


class Runs:
    """Commands in children of a process that has torch loaded."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("fork_runs.py")
        self.server = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()

    def run(self, *command: str, kill_after: float | None = None) -> int:
        """The exit status; that of the signal, below 0, where it was killed in time."""
        assert self.server.stdin is not None
        print(json.dumps(command), file=self.server.stdin, flush=True)
        pid = int(self.answer())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(int(self.answer()))

    def close(self) -> None:
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait(60)


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.close()


@pytest.mark.slow
def test_killed_at_twenty_random_moments(store: Path, tmp_path: Path, runs: Runs) -> None:
    options = ["--steps", "120", "--checkpoint-every", "2", "--validate-every", "20"]
    assert runs.run("pretrain", *arguments(store, tmp_path / "first", "--steps", "1")) == 0  # the first is slower
    begin = time.monotonic()
    whole = tmp_path / "whole"
    assert runs.run("pretrain", *arguments(store, whole, *options)) == 0
    seconds = time.monotonic() - begin
    rng = np.random.default_rng(0)
    reached, killed, number = set(), 0, 0
    while killed < 20:  # most often all in one run; where the kills come late, a second one begins
        cut = tmp_path / str(number)
        resume = ["--resume"] if cut.exists() else []
        moment = rng.uniform(0, seconds / 5)
        status = runs.run("pretrain", *arguments(store, cut, *options, *resume), kill_after=moment)
        assert status in (0, -signal.SIGKILL)
        killed += status != 0
        reached |= {path.name for path in checkpoints(cut)[-1:]}
        if status == 0:
            assert_same(cut, whole)
            number += 1
    assert runs.run("pretrain", *arguments(store, cut, *options, "--resume")) == 0
    assert_same(cut, whole)
    assert len(reached) > 6  # the moments were spread over the run


@pytest.mark.slow
@pytest.mark.parametrize("command", ["pretrain", "recognize"])
def test_compiled_runs_go_on_bit_for_bit(store: Path, tmp_path: Path, runs: Runs, command: str) -> None:
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    length = ["--steps", "4"] if command == "pretrain" else ["--epochs", "1"]
    options = [*length, "--compile", "--checkpoint-every", "2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert runs.run(command, *arguments(store, whole, *options)) == 0
    shutil.copytree(whole, cut)
    (checkpoints(cut)[-1] / "state.pt").unlink()
    (cut / "metrics.json").unlink()  # a run of recognize that has one is finished
    assert runs.run(command, *arguments(store, cut, *options, "--resume")) == 0
    assert_same(cut, whole)
    assert list((tmp_path / ".compile-cache").iterdir())

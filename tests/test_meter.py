"""What a run logs of its speed, and the profile of some steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training import meter, pretrain
from training.data.loader import Everywhere
from training.prepare import main as prepare

from test_recognize import arrays  # isort: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    raw = arrays(folder / "a.npz")
    prepare(["arrays", str(folder / "a.zarr"), "--raw", str(raw), "--split", "v=views:1"])
    options = ["--data", str(folder / "a.zarr"), "--run", str(folder / "run"), "--batch-size", "4", "--device", "cpu"]
    pretrain.main([*options, "--steps", "8", "--profile", "2"])
    return folder / "run"


def test_every_line_of_training_says_how_fast_it_was(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    training = [line for line in lines if line["split"] == "train"]
    assert training
    for line in training[1:]:
        assert line["clips_per_s"] > line["sequences_per_s"] > 0 and line["grad_norm"] > 0
        assert 0 < line["data_s"] < line["step_s"] and 0 < line["fill"] <= 1 and line["memory_gb"] > 0.05


def test_a_profile_is_left(run: Path) -> None:
    trace = json.loads((run / "trace.json").read_text())
    assert any("ProfilerStep" in event.get("name", "") for event in trace["traceEvents"])
    assert "Self CPU" in (run / "profile.txt").read_text()


def test_pauses_and_the_first_step_do_not_count(monkeypatch) -> None:
    clock = iter([1.0, 2.0, 10.0, 11.5])
    monkeypatch.setattr(meter.time, "perf_counter", lambda: next(clock))

    class Batch:
        filled, frames, everywhere = 50, torch.zeros(100), Everywhere(np.arange(3), 3, 6)

    measured = meter.Meter(torch.device("cpu"))
    measured.count([Batch()])  # at 1
    with measured.paused():  # from 2 to 10
        pass
    measured.count([Batch()])  # at 11.5
    found = measured.read()
    assert found["step_s"] == 2.5 and found["sequences_per_s"] == 3 / 2.5 and found["clips_per_s"] == 6 / 2.5
    assert found["fill"] == 0.5 and measured.overall() == {"sequences_per_s": 3 / 2.5}

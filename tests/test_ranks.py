"""Several processes train as one would: the same losses, one writer, one end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers import tiny_config
from run_cases import arguments, logged, pretrained, state_of, tiny_models, tiny_store

import hitrs_fast as hf
from hitrs_fast.pretext import loss_counts
from training import detect, predict
from training.checkpoint import checkpoints
from training.data.augment import AugmentConfig
from training.data.loader import Loader
from training.data.pipeline import pretext_input
from training.data.records import DataError
from training.ranks import ALONE, Ranks, join
from training.runtime import seed_step
from training.scores import read_scores

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
BATCH = ["--batch-size", "8"]


class Recorded:
    """Stands for the other processes: first notes what a part would send, then gives what all have sent."""

    def __init__(self) -> None:
        self.rank, self.sent, self.answer = 0, [], None

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        self.sent.append(rows.detach())
        return rows.detach() if self.answer is None else self.answer


@pytest.mark.parametrize("preset", ["paper", "authors"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_parts_add_up_to_the_whole(preset: str, ranks: int) -> None:
    """Losses, metrics and every gradient, in float64: those of the parts, summed, are those of the whole batch."""
    torch.manual_seed(0)
    lengths = np.random.default_rng(0).integers(5, 60, 20)  # of the short ones not every task takes part
    offsets = np.concatenate([[0], lengths.cumsum()])
    frames = torch.randn(offsets[-1], 5, 3, dtype=torch.float64)
    model = hf.Pretraining(hf.HiTRS(tiny_config(5)), hf.PretextConfig.preset(preset)).double().eval()
    augment = AugmentConfig.preset(preset)

    def batch(rank: int, count: int) -> tuple[hf.PretextBatch, hf.Capacity]:
        windows, chosen = model.encoder.windows(), np.arange(20)
        data = Loader(frames, offsets, chosen, windows, 18, augment, 0, rank=rank, ranks=count)
        found = data.batch(data.plan(0), 0)
        generator = torch.Generator().manual_seed(1)
        return pretext_input(found, model.encoder.config, model.pretext, augment, generator), found.capacity

    def trained(*of: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        model.zero_grad()
        out = model(*of)
        out["loss"].backward()
        return out, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    whole, gradients = trained(*batch(0, 1))
    parts = [batch(rank, ranks) for rank in range(ranks)]
    total = sum(loss_counts(part, model.encoder.windows()) for part, _ in parts)
    parts = [(part._replace(total=total), capacity) for part, capacity in parts]
    model.others = others = Recorded()
    for part in parts:
        trained(*part)
    others.answer = torch.cat(others.sent)
    found = []
    for others.rank, part in enumerate(parts):
        found.append(trained(*part))
    for name, value in whole.items():
        torch.testing.assert_close(sum(out[name] for out, _ in found), value, rtol=1e-10, atol=1e-10)
    for name, value in gradients.items():
        torch.testing.assert_close(sum(g[name] for _, g in found), value, rtol=1e-8, atol=1e-10)


def test_the_gathering_model_stays_one_graph() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        model = hf.Pretraining(hf.HiTRS(tiny_config(5))).eval()
        loader = Loader(
            torch.randn(300, 5, 3), np.arange(0, 301, 30), np.arange(10), model.encoder.windows(), 8, None, 0
        )
        batch = loader.batch(loader.plan(0), 0)
        inputs = pretext_input(batch, model.encoder.config, model.pretext, None, torch.Generator().manual_seed(0))
        inputs = inputs._replace(total=loss_counts(inputs, model.encoder.windows()))
        expected = model(inputs, batch.capacity)
        model.others = ALONE
        compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")(inputs, batch.capacity)
        compiled["loss"].backward()
        torch.testing.assert_close(compiled, expected)
    finally:
        dist.destroy_process_group()


def test_random_numbers_of_ranks() -> None:
    """Crops and augmentation are drawn alike everywhere; dropout is each rank's own, the first one's as if alone."""
    generators = [torch.Generator() for _ in range(3)]
    draws = []
    for generator, rank in zip(generators, ([], [0], [1]), strict=True):
        seed_step(3, 0, 5, generator, *rank)
        draws.append((torch.rand(4, generator=generator), torch.rand(4)))
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][0], draws[2][0])
    assert torch.equal(draws[0][1], draws[1][1]) and not torch.equal(draws[0][1], draws[2][1])


def test_without_torchrun_nothing_is_distributed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_models(monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "4")  # of some other program
    for name in ("init_process_group", "all_reduce", "broadcast_object_list", "all_gather_object"):
        monkeypatch.delattr(dist, name)
    assert join("cpu") == (torch.device("cpu"), ALONE)
    pretrained(tiny_store(tmp_path), tmp_path / "run", "--steps", "2")


@pytest.mark.parametrize("command", [detect, predict])
def test_commands_of_one_process_say_so(command, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    with pytest.raises(SystemExit) as stop:
        command.main(["--data", "any.zarr"])
    assert stop.value.code == 2 and "without torchrun" in capsys.readouterr().err


def test_batches_that_do_not_divide() -> None:
    assert Ranks(1, 4).share(32) == 8
    with pytest.raises(DataError, match="--batch-size is 30, which counts all ranks together"):
        Ranks(1, 4).share(30)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_store(tmp_path_factory.mktemp("data"))


def started(counts: str, *command: str, die: str = "") -> tuple[list[dict[str, Any]], str]:
    """How the ranks have ended, for each of the `counts`, and what they said."""
    environment = ENVIRONMENT | ({"RANKS_DIE": die} if die else {})
    line = [sys.executable, str(HERE / "ranks_run.py"), counts, *command]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment, timeout=120)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def pretraining(store: Path, run: Path, *more: str) -> list[str]:
    steps = ["--steps", "20", "--warmup", "0", "--validate-every", "10"]
    return ["pretrain", *arguments(store, run, *BATCH, *steps, *more)]


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders 1, 2 and 4: the same pre-training on so many ranks."""
    folder = tmp_path_factory.mktemp("runs")
    ended, said = started("1,2,4", *pretraining(store, folder / "{}"))
    assert [end["ends"] for end in ended] == [[0], [0] * 2, [0] * 4], said
    assert "1 independent micro-batches of 8 sequences, 2 on each of 4 ranks" in said
    return folder


def numbers(run: Path) -> list[dict[str, float]]:
    """Every loss and metric of the log."""
    return [{k: v for k, v in line.items() if k != "split" and not k.endswith("_mb")} for line in logged(run)]


def assert_close(ours: Path, theirs: Path) -> None:
    one, other = numbers(ours), numbers(theirs)
    assert len(one) == len(other)
    for line, expected in zip(one, other, strict=True):
        assert line == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_losses_do_not_depend_on_the_number_of_ranks(runs: Path, ranks: int) -> None:
    assert_close(runs / str(ranks), runs / "1")
    record = json.loads((runs / str(ranks) / "run.json").read_text())
    assert record["ranks"] == ranks


@pytest.mark.slow
def test_traffic_is_what_the_sizes_say(runs: Path) -> None:
    weights = sum(p.numel() for p in state_of(runs / "4")["model"].values())
    for ranks in (2, 4):
        train = [line for line in logged(runs / str(ranks)) if line["split"] == "train"]
        for line in train:
            metrics = sum(name.startswith(("loss", "pose", "clip_acc", "video_acc", "retrieval")) for name in line)
            reduced = 4 * (weights + metrics) + 8 * 4  # and four counts
            assert line["reduced_mb"] == pytest.approx(reduced / 1e6, abs=1e-6)
            assert line["gathered_mb"] == pytest.approx(8 * (16 + 1) * 4 / 1e6, abs=1e-6)
    assert not any("reduced_mb" in line for line in logged(runs / "1"))


@pytest.mark.slow
def test_recognition_on_ranks(store: Path, tmp_path: Path) -> None:
    command = ["recognize", *arguments(store, tmp_path / "{}", *BATCH, "--epochs", "6", "--lr", "1e-4")]
    ended, said = started("1,2", *command)
    assert [end["ends"] for end in ended] == [[0], [0, 0]], said
    assert_close(tmp_path / "2", tmp_path / "1")
    one, two = (read_scores(tmp_path / name) for name in ("1", "2"))
    assert one.names.tolist() == two.names.tolist()
    np.testing.assert_allclose(one.logits, two.logits, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_all_stop_after_the_same_step_and_others_go_on(store: Path, runs: Path, tmp_path: Path) -> None:
    """One of two ranks is told to stop; four go on."""
    [end], said = started("2", *pretraining(store, tmp_path / "run"), die="1 6 SIGTERM")
    assert end["ends"] == [0, 0] and said.count("stopped by a signal to another rank after step 7 of 20") == 1
    assert [p.name for p in checkpoints(tmp_path / "run")] == ["step-0000007"]
    [end], said = started("4", *pretraining(store, tmp_path / "run", "--resume"))
    assert end["ends"] == [0] * 4
    assert_close(tmp_path / "run", runs / "1")


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others(store: Path, tmp_path: Path) -> None:
    [end], said = started("2", *pretraining(store, tmp_path / "run"), die="1 6 SIGKILL")
    assert end["ends"] == [2, -9] and end["seconds"] < 10
    assert "error: rank 0 of 2 has lost touch with another one" in said and "Traceback" not in said


@pytest.mark.slow
def test_torchrun_starts_again_from_the_newest_checkpoint(store: Path, runs: Path, tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    command = pretraining(store, tmp_path / "run", "--checkpoint-every", "5", "--resume")
    line = [sys.executable, *launcher, "--", str(HERE / "ranks_run.py"), *command]
    environment = ENVIRONMENT | {"RANKS_DIE": "1 6 SIGKILL"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0 and "goes on after step 5 of 20" in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == 1 and json.loads(done.stdout)["steps"] == 20
    assert logged(tmp_path / "run") == logged(runs / "2")

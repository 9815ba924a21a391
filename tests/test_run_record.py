"""What a run records of where it ran, what it compiles with, and files that are written whole."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from run_cases import pretrained, tiny_models, tiny_store

from training import runtime
from training.data.records import DataError
from training.data.store import Store
from training.runtime import commit, environment, use_compiler
from training.setup import sequence_names, write_json

CPU = torch.device("cpu")


def test_the_environment() -> None:
    found = environment(CPU)
    assert found["versions"]["torch"].startswith("2.") and found["versions"]["zarr"]
    assert found["cpu"]["cores"] == os.cpu_count() and found["cpu"]["name"]
    assert found["command"] and found["threads"] == torch.get_num_threads() and found["gpu"] is None
    json.dumps(found)


def test_the_commit_is_of_this_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package may lie within a checkout of something else."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    file = tmp_path / "runtime.py"
    file.write_text("1")
    monkeypatch.setattr(runtime, "__file__", str(file))
    git("init")
    git("commit", "--allow-empty", "-m", "other")
    assert commit() is None
    git("add", "runtime.py")
    git("commit", "-m", "own")
    assert commit() == git("rev-parse", "HEAD")
    file.write_text("2")
    assert commit() == git("rev-parse", "HEAD") + "+"
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_a_run_that_goes_on_keeps_its_earlier_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models(monkeypatch)
    store = tiny_store(tmp_path)
    run = pretrained(store, tmp_path / "run", "--steps", "1", "--seed", "3")
    first = json.loads((run / "run.json").read_text())
    assert first["seed"] == 3 and "earlier" not in first
    pretrained(store, run, "--steps", "1", "--seed", "3", "--resume")
    second = json.loads((run / "run.json").read_text())
    assert second["earlier"] == [first["environment"]]
    with pytest.raises(SystemExit):
        pretrained(store, run, "--steps", "2", "--seed", "3", "--resume")
    assert json.loads((run / "run.json").read_text()) == second


def test_a_missing_compiler_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with pytest.raises(DataError, match=r"finds no g\+\+.*apt install g\+\+"):
        use_compiler(CPU, None)
    (tmp_path / "clang++").touch(0o755)
    with pytest.raises(DataError, match="variable CXX"):  # torch does not look for clang++ by itself
        use_compiler(CPU, None)
    monkeypatch.setenv("CXX", "clang++")
    use_compiler(CPU, None)
    monkeypatch.setenv("CXX", "nothing")
    use_compiler(torch.device("cuda"), None)


def test_the_compile_cache_lies_beside_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(tmp_path)
    use_compiler(torch.device("cuda"), None)
    assert os.environ.pop("TORCHINDUCTOR_CACHE_DIR") == str(tmp_path / "runs/.compile-cache")
    use_compiler(torch.device("cuda"), Path("runs/one"))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "runs/.compile-cache")
    use_compiler(torch.device("cuda"), Path("elsewhere/one"))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "runs/.compile-cache")


def test_json_is_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    write_json(file, {"loss": 1})
    with pytest.raises(ValueError, match="Circular"):
        write_json(file, (loop := {}) | {"loop": loop.setdefault("loop", loop)})
    assert json.loads(file.read_text()) == {"loss": 1}


def test_names_of_sequences(tmp_path: Path) -> None:
    store = Store.open(tiny_store(tmp_path))
    names = sequence_names(store, np.array([3, 0]))
    assert names == [store.names[3], store.names[0]]
    monkey = store.sequence_sample.copy()
    monkey[1] = 0
    store.__dict__["sequence_sample"] = monkey
    assert sequence_names(store, np.array([1, 2])) == [
        f"{store.names[0]} body {store.sequence_body[1]}",
        store.names[2],
    ]

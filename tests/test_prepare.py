"""The prepare command: exit codes, messages, and nothing half-made."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from training import prepare
from training.data.records import DataError
from training.data.store import Store
from training.runtime import run

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "training.prepare"]


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, run in this process."""
    try:
        prepare.main([str(a) for a in args])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def npz(folder: Path) -> Path:
    path = folder / "in.npz"
    lengths = np.array([3, 4, 5])
    rng = np.random.default_rng(0)
    np.savez(
        path,
        joints=rng.normal(size=(12, 3, 3)).astype(np.float32),
        lengths=lengths,
        labels=np.array([0, 1, 1]),
        views=np.array([1, 2, 3]),
        parents=np.array([-1, 0, 1]),
    )
    return path


def test_demo_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "demo.zarr"
    code, out, _ = call(capsys, "demo", store, "--count", 5, "--seed", 3)
    assert code == 0
    figures = json.loads(out.splitlines()[-1])
    frames = Store.open(store).counts["frames"]
    sequences = Store.open(store).counts["sequences"]
    assert figures == {"store": str(store), "samples": 5, "sequences": sequences, "frames": frames, "skipped": 0}
    code, out, err = call(capsys, "check", store)
    assert (code, err) == (0, "")
    assert json.loads(out) == {"store": str(store), **Store.open(store).counts, "problems": 0}


def test_arrays_with_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "a.zarr"
    rules = ["--split", "cross-view=views:1,2", "--split", "last=views:3"]
    code, out, _ = call(capsys, "arrays", store, "--raw", npz(tmp_path), "--fps", 7.5, *rules)
    assert code == 0
    assert json.loads(out)["samples"] == 3
    opened = Store.open(store)
    assert opened.fps == 7.5
    assert opened.split_names[:2] == ["cross-view", "last"]
    assert opened.split().tolist() == [True, True, False]
    assert opened.split("last").tolist() == [False, False, True]


@pytest.mark.parametrize("bodies", ["tracked", "first-two"])
def test_ntu60_lists_what_it_skips(tmp_path: Path, capsys: pytest.CaptureFixture[str], bodies: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    body = "72057594037944738 0 1 1 1 1 0 0.1 0.2 2\n25\n" + "0.5 0.25 3 1 1 1 1 0 0 0 1 2\n" * 25
    (raw / "S001C002P003R001A013.skeleton").write_text("2\n" + f"1\n{body}" * 2)
    (raw / "S001C002P003R001A014.skeleton").write_text("")
    args = ["--raw", raw, "--bodies", bodies]
    code, out, err = call(capsys, "ntu60", tmp_path / "n.zarr", *args)
    assert code == 0
    assert json.loads(out)["skipped"] == 1
    assert "skipped S001C002P003R001A014:" in err and "empty" in err
    assert Store.open(tmp_path / "n.zarr").read_frames()[1, 24].tolist() == [0.5, 0.25, 3]
    code, out, err = call(capsys, "ntu60", tmp_path / "strict.zarr", *args, "--strict")
    assert (code, out) == (2, "") and "empty" in err
    assert sorted(os.listdir(tmp_path)) == ["n.zarr", "raw"]


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "here.zarr"
    call(capsys, "demo", store, "--count", 2)
    (tmp_path / "empty").mkdir()
    raw = npz(tmp_path)
    before = sorted(os.listdir(tmp_path))
    new = tmp_path / "new.zarr"
    for args, message in [
        (("demo", store), "--overwrite"),
        (("demo", new, "--count", 0), "count is 0"),
        (("arrays", new, "--raw", tmp_path / "no.npz"), "no.npz"),
        (("ntu60", new, "--raw", tmp_path / "no"), "no such folder"),
        (("ntu120", new, "--raw", tmp_path / "empty"), "no .skeleton file"),
        (("arrays", new, "--raw", raw, "--split", "nonsense"), "nonsense"),
        *((("arrays", new, "--raw", raw, "--fps", fps), f"--fps is {fps}") for fps in ("0", "inf", "nan")),
        (("check", tmp_path / "no.zarr"), "no such folder"),
        (("check", tmp_path / "empty"), "not a store"),
    ]:
        code, out, err = call(capsys, *args)
        assert (code, out) == (2, ""), args
        assert message in err and "Traceback" not in err, err
        assert sorted(os.listdir(tmp_path)) == before


def test_check_lists_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "demo.zarr"
    call(capsys, "demo", store, "--count", 2)
    (store / "sample_label/c/0").unlink()
    (store / "segments/zarr.json").write_text("{}")
    code, out, err = call(capsys, "check", store)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 3 and lines[0].startswith("sample_label/c/0") and lines[1].startswith("segments/zarr.json")


def test_long_lists_of_skipped_files_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    prepare.report_skipped([(f"n{i}", "why") for i in range(25)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21 and lines[0] == "skipped n0: why" and lines[-1] == "skipped 5 more"


@pytest.mark.parametrize(("error", "code"), [(DataError("x is wrong"), 2), (KeyboardInterrupt(), 130)])
def test_run_turns_expected_errors_into_exit_codes(error: BaseException, code: int) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run(main)
    assert end.value.code == code


def test_run_hides_no_bug() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: print(1 // 0))


def test_as_a_command_it_exits_with_2(tmp_path: Path) -> None:
    args = ["ntu60", str(tmp_path / "x.zarr"), "--raw", str(tmp_path / "no")]
    done = subprocess.run([*COMMAND, *args], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_an_interrupted_command_leaves_no_store(tmp_path: Path) -> None:
    store = tmp_path / "big.zarr"
    args = [*COMMAND, "demo", str(store), "--count", "200000"]
    # A shell that runs the tests in the background has them, and what they start, ignore the signal.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(args, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    deadline = time.monotonic() + 60
    while not (tmp_path / "big.zarr.partial" / "store" / "zarr.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    for _ in range(3):  # the first sample imports numpy.random, whose Cython modules swallow a KeyboardInterrupt
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, err = process.communicate(timeout=10)
            break
    assert process.returncode == 130, err
    assert err.endswith("interrupted\n") and err.count("\n") <= 2
    assert os.listdir(tmp_path) == (["big.zarr.partial"] if "goes on from there" in err else [])

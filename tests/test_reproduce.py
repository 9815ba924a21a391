"""training.reproduce: plans, what is skipped, what goes on, and tables that say what was not run."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from test_recognize import arrays

from training import experiments, jobs, reproduce
from training.data.records import DataError
from training.experiments import EXPERIMENTS, Cell, Run, Study, study_of
from training.prepare import main as prepare
from training.roles import Roles, roles_of
from training.tables import as_csv, rows_of, text_of

ALL = Roles("a.zarr", "d.zarr", "p.zarr", "b.zarr", dict.fromkeys(("a.zarr", "b.zarr", "d.zarr", "p.zarr"), "kinect20"))
ONLY = Roles("a.zarr", None, None, None, {"a.zarr": "kinect20"})


@pytest.mark.parametrize("which", [*EXPERIMENTS, "all"])
@pytest.mark.parametrize("scale", ["paper", "small", "tiny"])
def test_every_run_finds_what_it_needs_before_it(which: str, scale: str) -> None:
    study = study_of(which, ALL, scale, (0, 1))
    seen: set[str] = set()
    for run in study.runs.values():
        assert {run.init, *run.inputs} - {None} <= seen
        seen.add(run.name)
    cells = [cell for table in study.tables.values() for cell in table]
    assert all(cell.run in seen for cell in cells) and len(set(cells)) == len(cells)


def test_the_ablation_switches_off_what_is_not_named() -> None:
    study = study_of("table4", ONLY, "small", (0,))
    run = study.runs["pretrain-a-joint-FV"]
    assert run.command[-2:] == ("--weights.clip", "0") and "--weights.spatial" not in run.command
    assert study.runs["recognize-a-joint-FV-0.1"].init == run.name
    assert study.runs["recognize-a-joint-none-0.1"].init is None
    assert {cell.run for cell in study.tables["table4"] if cell.column == "mpjpe_mm"} == {None}
    numbers = EXPERIMENTS["table4"][2]
    assert numbers["FCV", "top1"] == 86.0 and numbers["V", "mpjpe_mm"] == 88.1 and len(numbers) == 16


def test_what_cannot_be_run_is_said() -> None:
    with pytest.raises(DataError, match="table5 needs data"):
        study_of("table5", ONLY, "tiny", (0,))


def test_roles_are_read_off_the_stores(tmp_path: Path) -> None:
    for name in ("one", "two"):
        raw = arrays(tmp_path / f"{name}.npz", samples=4)
        prepare(["arrays", str(tmp_path / f"{name}.zarr"), "--raw", str(raw), "--split", "v=views:1"])
    paths = [str(tmp_path / f"{name}.zarr") for name in ("one", "two")]
    roles = roles_of(paths)
    assert (roles.recognition, roles.source, roles.detection, roles.prediction) == (*paths, None, None)
    assert roles.fit(*paths)
    with pytest.raises(DataError, match="named alike"):
        roles_of([paths[0], paths[0]])


def scripted(monkeypatch, *scripts: str) -> Study:
    """A study of runs that are these Python scripts."""
    study = Study(ONLY, study_of("figure3", ONLY, "tiny", (0,)).scale, (0,))
    for number, script in enumerate(scripts):
        study.add(f"run{number}", script)
    monkeypatch.setattr(jobs, "command_line", lambda _study, _out, run: [sys.executable, "-c", run.command[0]])
    return study


def test_finished_runs_are_skipped_and_others_not_taken_for_them(monkeypatch, tmp_path: Path) -> None:
    note = f"open({str(tmp_path / 'times')!r}, 'a').write('x'); print('{{\"top1\": 0.5}}')"
    study = scripted(monkeypatch, note, note)
    jobs.execute(study, tmp_path)
    jobs.execute(study, tmp_path)
    assert (tmp_path / "times").read_text() == "xx"
    assert jobs.result_of(tmp_path, study.runs["run0"]) == {"top1": 0.5}
    with pytest.raises(DataError, match="other options"):
        jobs.result_of(tmp_path, Run("run0", ("other",)))


def test_a_failed_run_ends_it_and_is_tried_again(monkeypatch, tmp_path: Path) -> None:
    study = scripted(monkeypatch, "raise SystemExit(2)")
    with pytest.raises(DataError, match="run0 failed"):
        jobs.execute(study, tmp_path)
    assert jobs.result_of(tmp_path, study.runs["run0"]) is None


def test_a_signal_reaches_the_run_and_ends_the_rest(monkeypatch, tmp_path: Path) -> None:
    script = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
        f"open({str(tmp_path / 'ready')!r}, 'w').close(); time.sleep(60)"
    )
    study = scripted(monkeypatch, script, "print('{}')")

    def interrupt() -> None:
        while not (tmp_path / "ready").exists():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        jobs.execute(study, tmp_path)
    assert not list((tmp_path / "results").glob("*.json"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_that_was_cut_goes_on(tmp_path: Path) -> None:
    study = study_of("figure3", ONLY, "tiny", (0,))
    run = study.runs["pretrain-a-joint-FCV"]
    assert "--resume" not in jobs.command_line(study, tmp_path, run)
    (tmp_path / "runs" / run.name).mkdir(parents=True)
    assert jobs.command_line(study, tmp_path, run)[-1] == "--resume"


def test_tables_say_what_was_not_run() -> None:
    seeds = {"top1": {"values": [0.5, 0.7], "mean": 0.6, "std": 0.1414}}
    results = {"one": {"top1": 0.5}, "two": {"top1": 0.6, "seeds": seeds}, "three": None}
    cells = [Cell("F", "top1", "one"), Cell("C", "10%", "two"), Cell("V", "top1", "three"), Cell("V", "mpjpe_mm", None)]
    rows = rows_of(cells, results.__getitem__, {("F", "top1"): 80.8})
    assert [text_of(row) for row in rows] == ["50.0", "60.0 (std 14.1, 2 seeds)", "not run", "not run"]
    assert rows[0].paper == 80.8 and rows[1].paper is None
    assert as_csv({"table4": rows}).splitlines()[1] == "table4,F,top1,50.0,,1,80.8"


@pytest.mark.slow
def test_figure3_from_nothing_to_its_table(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(experiments, "FRACTIONS", ("0.1", "1"))
    raw = arrays(tmp_path / "a.npz", samples=60)
    prepare(["arrays", str(tmp_path / "a.zarr"), "--raw", str(raw), "--split", "v=views:1"])
    capsys.readouterr()
    options = ["figure3", "--data", str(tmp_path / "a.zarr"), "--scale", "tiny", "--out", str(tmp_path / "out")]
    reproduce.main(options)
    result = json.loads(capsys.readouterr().out)
    assert set(result["tables"]["figure3"]) == {
        f"{row} {part}" for row in ("scratch", "pretrained") for part in ("10%", "100%")
    }
    assert result["tables"]["figure3"]["pretrained 100%"] > 0
    assert "not run" not in (tmp_path / "out" / "tables.md").read_text()

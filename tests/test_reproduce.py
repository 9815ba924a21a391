"""training.reproduce: plans, what is skipped, what goes on, and tables that say what was not run."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from browser import needs_browser, shown
from test_recognize import arrays

from training import estimates, experiments, jobs, reproduce
from training.charts import Bar, bar_chart
from training.data.records import DataError
from training.experiments import EXPERIMENTS, Cell, Run, Study, study_of
from training.prepare import main as prepare
from training.roles import Roles, roles_of
from training.setup import write_json
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

    before = signal.getsignal(signal.SIGINT)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        jobs.execute(study, tmp_path)
    assert not list((tmp_path / "results").glob("*.json"))
    assert signal.getsignal(signal.SIGINT) is before


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


def test_a_report_of_what_is_there(tmp_path: Path) -> None:
    study = study_of("figure3", ONLY, "tiny", (0,))
    tables = reproduce.write_tables(study, tmp_path, "tiny")
    assert all(row.ours is None for row in tables["figure3"])
    page = (tmp_path / "report.html").read_text()
    assert page.count("not run") == len(tables["figure3"]) and "plumbing only" in page
    assert reproduce.fraction_charts(tables["figure3"]) == [""]
    half = [row._replace(ours=50.0) for row in tables["figure3"][:3]]
    assert reproduce.fraction_charts(half)[0].count("<circle") == 3


def test_the_ablation_is_drawn_from_zero() -> None:
    chart = bar_chart("a < b", [Bar("F", 50.0, 10.0), Bar("none", 25.0), Bar("V", 0.0)])
    ends = [float(end) for end in re.findall(r'bar c0" d="M110 \d+H([0-9.]+)V', chart)]
    assert ends[0] - 110 == pytest.approx(2 * (ends[1] - 110), abs=0.1) and ends[2] == 110
    assert chart.count("whisker") == 1 and "a &lt; b" in chart and ">25.0<" in chart


@needs_browser
def test_a_browser_shows_the_ablation(tmp_path: Path) -> None:
    study = study_of("table4", ONLY, "tiny", (0, 1))
    values = {"none": 0.512, "F": 0.6, "FCV": 0.701}
    (tmp_path / "results").mkdir()
    for levels, mean in values.items():
        run = study.runs[f"recognize-a-joint-{levels}-0.1"]
        result = {"top1": mean, "seeds": {"top1": {"values": [mean] * 2, "mean": mean, "std": 0.02}}}
        write_json(tmp_path / "results" / f"{run.name}.json", {"command": [*run.command, run.init], "result": result})
        (tmp_path / "runs" / run.name).mkdir(parents=True)
        write_json(tmp_path / "runs" / run.name / "run.json", {"command": "recognize"})
    reproduce.write_tables(study, tmp_path, "tiny")
    dom = shown(tmp_path / "report.html", tmp_path)
    assert dom.count('class="bar') == dom.count('class="whisker') == 3 and ">51.2<" in dom and ">70.1<" in dom
    assert "not run" in dom


def test_runs_that_tables_share_are_made_once() -> None:
    study = study_of("table3", ALL, "small", (0,))
    alone = set(study.runs)
    EXPERIMENTS["table4"][0](study)
    assert {"recognize-a-joint-none-0.1", "recognize-a-joint-FCV-0.1", "predict-p-none"} <= alone
    assert len([name for name in study.runs if name.startswith("recognize-a-joint-FCV")]) == 1


def test_nothing_is_transferred_from_a_store_to_itself() -> None:
    study = study_of("table3", dataclasses.replace(ALL, prediction="b.zarr"), "small", (0,))
    assert "predict-b-FCV" in study.runs and "predict-b-other" not in study.runs
    assert {cell.run for cell in study.tables["table3"] if cell.row == "transferred"} >= {None, "detect-d-other"}


def test_clips_of_streams_of_another_rate_last_as_long() -> None:
    roles = dataclasses.replace(ALL, rates={"d.zarr": 7.0, "p.zarr": 15.0})
    study = study_of("all", roles, "small", (0,))
    slow, usual = (study.runs[f"pretrain-{name}-joint-FCV"].command for name in "dp")
    assert slow[-2:] == ("--dilate", "1") and "--dilate" not in usual
    assert "--batch-size" in slow and "--batch-size" not in usual


def test_estimates_follow_the_frames_that_are_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(estimates, "training_sequences", lambda _: estimates.Sequences(1000, 40_000))
    monkeypatch.setattr(estimates.torch.cuda, "is_available", lambda: False)
    study = study_of("all", ALL, "small", (0, 1))
    once = {
        "pretrain-a-joint-F": 600 * 32 * 40,
        "recognize-a-joint-none-1": 2 * 30 * 40_000,
        "recognize-a-joint-none-0.01": 2 * 300 * 32 * 40,
        "detect-d-none": 2 * 4 * 40 * 40_000 * 4 / 28,
        "predict-p-none": 2 * 300 * 32 * 72,
        "fused-joint-bone-1": 0,
    }
    for name, frames in once.items():
        assert estimates.seconds_of(study, study.runs[name]) == pytest.approx(15 + frames / 1000)


def killed_at(out: Path, moment: str, options: list[str]) -> None:
    """Starts the command and kills it and its child once a file of this pattern is there."""
    command = subprocess.Popen([sys.executable, "-m", "training.reproduce", *options], start_new_session=True)
    end = time.monotonic() + 120
    while not list(out.glob(moment)):
        assert command.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    os.killpg(command.pid, signal.SIGKILL)
    command.wait()


@pytest.mark.slow
def test_figure3_from_nothing_to_its_table(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(experiments, "FRACTIONS", ("0.1", "1"))
    raw = arrays(tmp_path / "a.npz", samples=60)
    prepare(["arrays", str(tmp_path / "a.zarr"), "--raw", str(raw), "--split", "v=views:1"])
    capsys.readouterr()
    options = ["figure3", "--data", str(tmp_path / "a.zarr"), "--scale", "tiny", "--out", str(tmp_path / "out")]
    for moment in ("runs/pretrain*", "runs/pretrain*/log.jsonl", "results/pretrain*.json", "runs/recognize*/log.jsonl"):
        killed_at(tmp_path / "out", moment, options)
    reproduce.main(options)
    result = json.loads(capsys.readouterr().out)
    assert set(result["tables"]["figure3"]) == {
        f"{row} {part}" for row in ("scratch", "pretrained") for part in ("10%", "100%")
    }
    assert result["tables"]["figure3"]["pretrained 100%"] > 0
    assert "not run" not in (tmp_path / "out" / "tables.md").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<h2>") == 3 and "data:image/png" in page and "% of the labels" in page

"""python -m training.detect --live: streams of JSON lines."""

from __future__ import annotations

import io
import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stream_cases import CLASSES, detector, encoder, make, stream

from training import detect
from training.frame_lines import LONGEST_LINE
from training.metrics.pku_text import read_segments

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    return detector(make(folder), encoder(folder / "encoder"), folder / "run")


def lines_of(sample: int, **more: object) -> list[str]:
    """A stream's frames as JSON lines: bodies that are hidden are left out."""
    recording = stream(sample, 150)
    lines = []
    for number in range(recording.frames):
        bodies = {
            f"body {s.body}": s.joints[number - s.first_frame].tolist()
            for s in recording.sequences
            if s.first_frame <= number < s.first_frame + len(s.joints) and s.joints[number - s.first_frame].any()
        }
        lines.append(json.dumps({"bodies": bodies, **more}))
    return lines


def watch(lines: list[str], folder: Path, run_folder: Path, capsys, *options: str) -> tuple[list[dict], dict, str]:
    file = folder / "lines.jsonl"
    file.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    detect.main(["--live", str(file), "--init", str(run_folder), "--device", "cpu", *options])
    printed = capsys.readouterr()
    *found, counts = [json.loads(line) for line in printed.out.splitlines()]
    return found, counts, printed.err


@pytest.mark.parametrize("sample", [3, 5])
def test_live_finds_what_whole_streams_have(finished: Path, tmp_path: Path, capsys, sample: int) -> None:
    found, counts, _ = watch(lines_of(sample), tmp_path, finished, capsys)
    expected = read_segments(finished / "detections" / f"s{sample}.txt", 2, scored=True)
    found.sort(key=lambda f: (f["first"], f["end"]))
    for key in ("label", "first", "end"):
        assert [f[key] for f in found] == getattr(expected, key).tolist()
    np.testing.assert_allclose([f["score"] for f in found], expected.score, atol=2e-5)
    assert [f["action"] for f in found] == [CLASSES[label] for label in expected.label]
    assert found[0]["seconds"] == [found[0]["first"] / 8, found[0]["end"] / 8]
    assert counts["frames"] == 150 == counts["lines"] and counts["detections"] == len(found) > 3
    assert not any(counts["skipped"].values())


def test_live_skips_and_counts_what_is_no_frame(finished: Path, tmp_path: Path, capsys, caplog) -> None:
    good = [json.loads(line) for line in lines_of(3)]
    for number, frame in enumerate(good):
        frame["time"] = number / 8
    pose = good[0]["bodies"]["body 1"]
    nan = json.dumps({"time": 20.1, "bodies": [np.full((5, 3), np.nan).tolist()]})
    bad = [
        json.dumps(good[9])[:100],
        "[1, 2]",
        "[" * 100000,
        "\udcff\udcfe",
        "x" * LONGEST_LINE + "x",
        '{"bodies": 3}',
        '{"bodies": [[[1, "2", 3]]]}',
        '{"bodies": [[[1, 2], [3]]]}',
        '{"bodies": [[[1' + "0" * 400 + ", 2, 3]]]}",
        '{"bodies": [], "number": 1.5}',
        '{"bodies": [], "number": true}',
        '{"bodies": [], "number": 1' + "0" * 400 + "}",
        '{"bodies": [], "time": "soon"}',
        '{"bodies": [], "time": 1' + "0" * 400 + "}",
        json.dumps({"bodies": [pose[:3]]}),
        json.dumps({"bodies": [], "time": 1, "number": 1}),
    ]
    backward = [json.dumps({"time": t, "bodies": [pose]}) for t in (3.0, -1.0, math.nan, math.inf, 1e308)]
    clean, _, _ = watch([json.dumps(frame) for frame in good], tmp_path, finished, capsys)
    lines = [json.dumps(frame) for frame in good[:60]] + bad + backward + [json.dumps(f) for f in good[60:]] + ["", nan]
    found, counts, _ = watch(lines, tmp_path, finished, capsys)
    assert found == clean and counts["frames"] == 151
    assert counts["skipped"] == {"malformed": len(bad), "late": len(backward), "not_finite": 1, "no_hip": 0}
    assert (
        f"skipped {len(bad)} lines that are no frame" in caplog.text and "line 61 is not JSON, or is cut" in caplog.text
    )


def test_live_warns_of_a_rate_that_does_not_fit_and_of_too_few_frames(finished, tmp_path, capsys, caplog) -> None:
    slow = [json.dumps(json.loads(line) | {"time": n / 4}) for n, line in enumerate(lines_of(3))]
    watch(slow, tmp_path, finished, capsys)
    assert "150 frames came in the time of 299; the detector was trained at 8" in caplog.text
    watch(lines_of(3)[:4], tmp_path, finished, capsys)
    assert "has 4 frames, fewer than a window's 7" in caplog.text


def test_live_reads_stdin(finished: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines_of(3)).encode())))
    detect.main(["--live", "-", "--init", str(finished), "--device", "cpu", "--min-length", "200"])
    assert json.loads(capsys.readouterr().out) | {"skipped": 0} == {
        "lines": 150, "frames": 150, "scored": 150, "detections": 0, "skipped": 0
    }  # fmt: skip


def test_live_without_what_it_needs(finished: Path, tmp_path: Path, capsys) -> None:
    tiny, cut = finished.parent / "encoder", tmp_path / "cut"
    shutil.copytree(finished, cut)
    (cut / "heads.safetensors").write_bytes((finished / "heads.safetensors").read_bytes()[:-9])
    (tmp_path / "none.jsonl").write_text("x\n\n")
    file = str(tmp_path / "none.jsonl")
    for options, message in {
        (file,): "--init RUN", (file, "--init", str(tiny)): "not a finished run of training.detect",
        (file, "--init", str(finished)): "none of its 2 lines is a frame: line 1 is not JSON",
        (str(tmp_path / "absent"), "--init", str(finished)): "No such file",
        (file, "--init", str(finished), "--method", "windows"): "need the whole stream",
        (file, "--init", str(finished), "--fps", "30"): "--live does not use --fps",
        (file, "--init", str(finished), "--data", "x.zarr", "--test"): "--live does not use --data",
        (file, "--init", str(cut)): "heads.safetensors: is damaged",
    }.items():  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            detect.main(["--device", "cpu", "--live", *options])
        assert stop.value.code == 2 and message in capsys.readouterr().err


def shown(run_folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "training.detect", "--live", "-", "--init", str(run_folder), "--device", "cpu", *more]


def test_lines_that_are_no_frame_keep_their_place(finished: Path, tmp_path: Path, capsys) -> None:
    """Otherwise windows would reach across them, and all that follows would be told too early."""
    lines, by_number = lines_of(3), [json.loads(line) for line in lines_of(3)]
    numbered = [json.dumps(frame | {"number": n}) for n, frame in enumerate(by_number)]
    few_joints = json.dumps({"bodies": [[[1, 2, 3]]]})
    cut = [*lines[:20], *[lines[20][:40]] * 12, *[few_joints] * 8, *lines[40:]]
    found, counts, _ = watch(cut, tmp_path, finished, capsys)
    expected, _, _ = watch(numbered[:20] + numbered[40:], tmp_path, finished, capsys)
    assert found == expected and len(found) > 3 and counts["skipped"]["malformed"] == 20


@pytest.mark.parametrize("wrong", ["ahead", "set back"])
def test_a_clock_that_jumps_costs_a_second(finished: Path, tmp_path: Path, capsys, caplog, wrong: str) -> None:
    frames = [json.loads(line) | {"time": 100 + n / 8} for n, line in enumerate(lines_of(3))]
    if wrong == "ahead":
        frames[20]["time"] = 1.7e9
    else:
        for frame in frames[21:]:
            frame["time"] -= 60
    found, counts, _ = watch([json.dumps(frame) for frame in frames], tmp_path, finished, capsys)
    assert counts["skipped"]["late"] == 10 and counts["frames"] == 140
    assert "the clock was set back" in caplog.text and "line 22 has a time that is none" in caplog.text
    assert "frames came in the time of" not in caplog.text
    alone, _, _ = watch([json.dumps(frame) for frame in frames[31:]], tmp_path, finished, capsys)
    assert found[-len(alone) :] == alone and len(alone) > 2


def test_a_fast_camera_is_no_clock_that_jumps(finished: Path, tmp_path: Path, capsys, caplog) -> None:
    slow = [json.loads(line) for line in lines_of(3)]
    lines = [json.dumps(slow[n // 20] | {"time": n / 160}) for n in range(600)]
    _, counts, _ = watch(lines, tmp_path, finished, capsys)
    assert counts["frames"] == 31 and "set back" not in caplog.text


def test_times_that_are_none_are_named(finished: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "nan.jsonl"
    file.write_text("\n".join(json.dumps(json.loads(line) | {"time": math.nan}) for line in lines_of(3)))
    with pytest.raises(SystemExit) as stop:
        detect.main(["--live", str(file), "--init", str(finished), "--device", "cpu"])
    assert stop.value.code == 2 and "line 1 has a time that is none" in capsys.readouterr().err


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_the_end_of_the_stream(finished: Path, tmp_path: Path, capsys, which: signal.Signals) -> None:
    lines = lines_of(3)[:60]
    expected, _, _ = watch([*lines, "{cut"], tmp_path, finished, capsys)
    with subprocess.Popen(
        shown(finished), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as camera:
        camera.stdin.write("".join(f"{line}\n" for line in [*lines, "{cut"]))
        camera.stdin.flush()
        told = [camera.stdout.readline()]  # it has begun
        camera.send_signal(which)
        out, err = camera.communicate(timeout=60)
    *found, counts = [json.loads(line) for line in [*told, *out.splitlines()]]
    assert camera.returncode == 0 and found == expected[: len(found)]
    assert counts["frames"] <= 60 and counts["detections"] == len(found) and "interrupted" not in err


def test_a_reader_that_leaves_is_no_bad_input(finished: Path) -> None:
    with subprocess.Popen(
        shown(finished), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as camera:
        camera.stdout.close()
        camera.stdin.write("".join(f"{line}\n" for line in lines_of(3)))
        camera.stdin.close()
        assert "rror" not in camera.stderr.read()
    assert camera.returncode == 141

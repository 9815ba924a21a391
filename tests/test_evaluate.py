"""PKU-MMD's text files of segments, and the command that evaluates them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import evaluate
from training.data.records import DataError
from training.metrics.pku_text import read_segments, write_segments
from training.metrics.segments import Segments

LABELS = "1,0,100,2\n2,200,300,1\n"


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, run in this process."""
    try:
        evaluate.main([str(a) for a in args])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def folders(root: Path, truth: dict[str, str], pred: dict[str, str]) -> list[object]:
    for folder, files in (("truth", truth), ("pred", pred)):
        (root / folder).mkdir(parents=True)
        for name, text in files.items():
            (root / folder / f"{name}.txt").write_text(text)
    return ["detection", "--truth", root / "truth", "--pred", root / "pred"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred = "1,0,100,0.9\n3 400 500 0.5\n3,600,700,4e-1\n"
    args = folders(tmp_path, {"0002-L": LABELS, "0003-M": "1,5,9\n"}, {"0002-L": pred, "0003-M": ""})
    code, out, err = call(capsys, *args, "--classes", 3)
    assert code == 0
    assert len(out.splitlines()) == 1
    # Class 1: one of two found, in 0002-L. Everything: P, R = 1/3, 1/3, then a third of 0; videos 1/6 and 0.
    figures = json.loads(out)
    assert figures == pytest.approx(
        {
            "map_a": 0.5 / 3,
            "map_v": 1 / 12,
            "map_a_present": 0.25,
            "map_a_voc": 0.25,
            "ap": 1 / 9,
            "ap_2d": 1 / 9,
            "f1": 1 / 3,
            "recordings": 2,
            "labelled": 3,
            "detected": 3,
            "overlap": 0.5,
            # Painted: 1 3 3 against 1 2, which are two edits of three, and nothing against 1.
            "edit": 1 / 6,
            "f1_10": 1 / 3,
            "f1_25": 1 / 3,
            "f1_50": 1 / 3,
        }
    )
    lines = [line.split() for line in err.splitlines()]
    assert ["1", "2", "1", "50.00%", "50.00%"] in lines and ["3", "0", "2", "0.00%", "0.00%"] in lines, err
    assert "map_a_present, over the 2 with labels" in err and "8.33%" in err
    code, out, _ = call(capsys, *args, "--overlap", 1)
    assert code == 0 and json.loads(out)["map_a"] == pytest.approx(0.5 / 51)


def test_a_recording_without_labels_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = folders(tmp_path, {"a": LABELS, "b": "\n"}, {"a": "1,0,100,1\n2,200,300,1\n", "b": ""})
    code, out, err = call(capsys, *args)
    assert code == 0 and json.loads(out)["map_v"] == 0.5
    assert "warning: 1 recordings have no label and count 0 in map_v: b" in err


def test_a_split_leaves_training_labels_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = folders(tmp_path, {"0002-L": LABELS, "0003-L": LABELS}, {"0003-L": "1,0,100,1\n"})
    split = tmp_path / "cross-subject.txt"
    split.write_text("Training videos:\n0002-L, \n\nValidation videos:\n0003-L, \n")
    code, out, err = call(capsys, *args)
    assert (code, out) == (2, "") and "0002-L" in err and "--split" in err
    code, out, _ = call(capsys, *args, "--split", split)
    assert code == 0 and json.loads(out)["recordings"] == 1
    split.write_text("Training videos:\n0009-L\n\nValidation videos:\n0003-L\n")
    code, out, err = call(capsys, *args, "--split", split)
    assert (code, out) == (2, "") and "cross-subject.txt: does not name 0002-L" in err
    split.write_text("Training videos:\n0003-L\n\nValidation videos:\n0002-L\n")
    code, out, err = call(capsys, *args, "--split", split)
    assert (code, out) == (2, "") and "0003-L" in err and "cross-subject.txt" in err


def test_test_recordings_without_labels_are_told(tmp_path: Path, capsys, caplog) -> None:
    split = tmp_path / "cross-subject.txt"
    split.write_text("Training videos:\n\nValidation videos:\na, b, c\n".replace("\n\n", "\nz\n"))
    code, _, _ = call(capsys, *folders(tmp_path, {"a": LABELS}, {"a": ""}), "--split", split)
    assert code == 0 and "has no labels of b, a test recording of" in caplog.text and "of 1 others" in caplog.text


def test_segments_count_as_they_are_painted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As MS-TCN scores frames. The sure one hides the other, but for frames 51 to 100 of it; frames may be many."""
    pred = "\ufeff2,1,100,0.2\n1,1,50,0.9\n2,2000000000,2000000100,0.5\n"
    args = folders(tmp_path, {"a": "1,1,50\n2,51,100\n2,2000000000,2000000100\n"}, {"a": pred})
    code, out, err = call(capsys, *args)
    found = json.loads(out)
    assert code == 0 and [found[key] for key in ("edit", "f1_10", "f1_25", "f1_50")] == [1, 1, 1, 1]
    assert "edit 100.00%, f1_10 100.00%" in err


@pytest.mark.parametrize(
    ("truth", "pred", "options", "message"),
    [
        ({"a": LABELS}, {"a": "1,0,100,1\n\n2,5\n"}, (), "a.txt: line 3, '2,5', has 2 fields"),
        ({"a": LABELS}, {"a": "1,0,100\n"}, (), "line 1, '1,0,100', has 3 fields"),
        ({"a": LABELS}, {"a": "1,0,100,2,3\n"}, (), "has 5 fields"),
        ({"a": LABELS}, {"a": "1,9,8,0.5\n"}, (), "line 1, '1,9,8,0.5', ends before it starts"),
        ({"a": LABELS}, {"a": "52,1,8,0.5\n"}, (), "has the class 52; classes are 1 to 51"),
        ({"a": LABELS}, {"a": "0,1,8,0.5\n"}, (), "has the class 0"),
        ({"a": "3,1,8\n"}, {"a": ""}, ("--classes", 2), "has the class 3; classes are 1 to 2"),
        ({"a": LABELS}, {"a": "1,-4,8,0.5\n"}, (), "out of range"),
        ({"a": LABELS}, {"a": "1,4,99999999999,0.5\n"}, (), "out of range"),
        ({"a": LABELS}, {"a": "1,4.5,8,0.5\n"}, (), "'4.5'"),
        ({"a": LABELS}, {"a": "one,4,8,0.5\n"}, (), "'one'"),
        ({"a": LABELS}, {"a": "1,4,8,nan\n"}, (), "finite"),
        ({"a": LABELS}, {"a": "1,4,8,high\n"}, (), "'high'"),
        ({"a": "1,5,9\n2,1,9\n1,8,12\n"}, {"a": ""}, (), "a.txt: line 3 overlaps line 1, and both have the class 1"),
        ({"a": "1,20,21\n1,1,30\n"}, {"a": ""}, (), "line 2 overlaps line 1"),
        ({"a": "1,7,7\n1,7,7\n"}, {"a": ""}, (), "line 2 overlaps line 1"),
        ({"a": LABELS, "b": LABELS, "c": LABELS}, {"a": ""}, (), "has no b.txt"),
        ({"a": LABELS}, {"a": "", "b": ""}, (), "no labels of b"),
        ({"a": ""}, {"a": ""}, (), "labelled"),
        ({}, {"a": ""}, (), "there is no *.txt"),
        ({"a": LABELS}, {"a": ""}, ("--overlap", 0), "overlap is 0"),
        ({"a": LABELS}, {"a": ""}, ("--split", "no-such-file"), "no-such-file"),
        ({"a": LABELS}, {"a": ""}, ("--classes", 0), "--classes is 0; it must be 1 to"),
        ({"a": LABELS}, {"a": ""}, ("--classes", 10**12), "it must be 1 to"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], truth, pred, options, message: str) -> None:
    code, out, err = call(capsys, *folders(tmp_path, truth, pred), *options)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err, err


def test_labels_may_touch_and_classes_may_overlap(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("1,10,20,1\r\n1,20,30,2\r\n2, 15, 25.0\r\n")
    found = read_segments(file, 51, scored=False)
    assert found.first.tolist() == [9, 19, 14] and found.end.tolist() == [20, 30, 25]


rows = st.lists(
    st.tuples(
        st.integers(1, 51), st.integers(0, 9000), st.integers(1, 500), st.floats(allow_nan=False, allow_infinity=False)
    )
)


@settings(deadline=None)
@given(rows)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, table: list) -> None:
    segments = Segments.of([(label, first, first + length, score) for label, first, length, score in table])
    file = tmp_path_factory.mktemp("text") / "a.txt"
    write_segments(file, segments)
    again = read_segments(file, 51, scored=True)
    for name in ("label", "first", "end", "score"):
        assert np.array_equal(getattr(again, name), getattr(segments, name))


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="0123,. \n-e\tx", max_size=40), st.booleans())
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str, scored: bool) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_text(text)
    try:
        found = read_segments(file, 3, scored)
    except DataError as error:
        assert str(error).startswith(f"{file}: line ")
    else:
        assert len(found) == sum(bool(line.strip()) for line in text.splitlines())
        assert (found.first < found.end).all() and (found.first >= -1).all() and np.isfinite(found.score).all()


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0 and "detection" in out
    code, out, _ = call(capsys, "detection", "--help")
    assert code == 0
    for option in ("--truth", "--pred", "--classes", "--overlap", "--split"):
        assert option in out

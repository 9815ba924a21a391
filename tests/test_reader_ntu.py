"""NTU RGB+D: the `.skeleton` text, the tracks, the names, the published splits and the reader."""

from __future__ import annotations

import gzip
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from training.data.readers.ntu import (
    ACTIONS,
    XSUB60,
    XSUB120,
    NtuReader,
    first_two,
    parse_name,
    published_splits,
    tracks,
)
from training.data.readers.parallel import parallel_map
from training.data.readers.skeleton_text import first_decimals, parse_skeleton
from training.data.records import DataError, Interrupted

SPEC = Path(__file__).parents[2] / "shared" / "spec"
FIRST, SECOND = 72057594037931101, 72057594037931104  # the same number in float64
NAME = "S001C002P003R002A013"

Frames = list[list[tuple[int, np.ndarray]]]  # per frame, per body: id and [25, 3]


def written(frames: Frames, newline: str = "\n") -> bytes:
    """The frames as `.skeleton` text, coordinates as their shortest float32 repr."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, joints in bodies:
            lines += [f"{body} 0 1 1 1 1 0 0.015 -0.11 2", "25"]
            lines += [" ".join(repr(float(v)) if v else str(v) for v in xyz) + OTHERS for xyz in joints]
    return (newline.join(lines) + newline).encode()


OTHERS = " 283.03 224.3 1027.2 -1.#INF -0.25 0.12 0.95 -9.2E-02 2"


def pose(value: float) -> np.ndarray:
    return np.full((25, 3), value, np.float32) + np.arange(25, dtype=np.float32)[:, None] / 8


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
poses = st.lists(finite, min_size=75, max_size=75).map(lambda v: np.array(v, np.float32).reshape(25, 3))
ids = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.tuples(ids, poses), max_size=3), min_size=1, max_size=4),
    st.sampled_from(["\n", "\r\n", " \n", "\r\n\t"]),
    st.sampled_from(["", "\n\n", " \r\n "]),
)
def test_written_frames_come_back_bit_for_bit(frames: Frames, newline: str, end: str):
    recording = parse_skeleton(written(frames, newline) + end.encode(), "x")
    assert recording.frames == len(frames)
    appearances = [(t, p, body, joints) for t, bodies in enumerate(frames) for p, (body, joints) in enumerate(bodies)]
    assert recording.frame.tolist() == [a[0] for a in appearances]
    assert recording.position.tolist() == [a[1] for a in appearances]
    assert recording.body.tolist() == [a[2] for a in appearances]
    expected = np.array([a[3] for a in appearances], np.float32).reshape(-1, 25, 3)
    assert recording.joints.dtype == np.float32 and recording.joints.tobytes() == expected.tobytes()


numbers = st.one_of(
    st.text("0123456789.-", min_size=1, max_size=18),
    st.text("0123456789.-+eEnaif", min_size=1, max_size=30),
    st.floats().map(repr),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=12))
@example(
    ["0.1", "-0.0", "-0", "-", ".", "-.", "5.", ".5", "1.2.3", "--1", "1-2", "999999999999999", "9007199254740993"]
)
@example(["0.000000000000001", "123456789.123456", "1234567890.123456", "0.30000000000000004", "1e5", "inf", "nan"])
def test_decimals_equal_float(texts: list[str]):
    for text, value in zip(texts, converted(texts), strict=False):
        try:
            expected = float(text)
        except ValueError:
            expected = math.nan
        assert math.isnan(value) if math.isnan(expected) else value.hex() == expected.hex()


def test_many_decimals_of_all_widths_equal_float():
    rng = np.random.default_rng(0)
    values = rng.normal(size=20000) * 10.0 ** rng.integers(-4, 5, 20000)
    texts = [f"{value:.{places}f}" for value, places in zip(values, rng.integers(0, 15, 20000), strict=True)]
    assert converted(texts)[: len(texts)] == [float(text) for text in texts]


def converted(texts: list[str]) -> list[float]:
    """Each text by `first_decimals`, three a line, with what it must not read behind them."""
    texts = [*texts, *["0.5"] * (-len(texts) % 3)]
    lines = [" ".join(texts[i : i + 3]) + " 7.25\n" for i in range(0, len(texts), 3)]
    begin = np.cumsum([0, *map(len, lines)])[:-1]
    return first_decimals("".join(lines).encode(), begin).ravel().tolist()


def test_an_id_of_17_digits_stays_itself():
    recording = parse_skeleton(written([[(FIRST, pose(1)), (SECOND, pose(2))]]), "x")
    assert recording.body.tolist() == [FIRST, SECOND]
    assert float(FIRST) == float(SECOND)


def edited(line: int, text: str, frames: int = 3) -> bytes:
    """A sound file of one body with one line replaced. Lines: 0 frames; then 28 per frame: bodies, body, 25, joints."""
    lines = written([[(FIRST, pose(t))] for t in range(frames)]).decode().split("\n")
    lines[line] = text
    return "\n".join(lines).encode()


SOUND = written([[(FIRST, pose(t))] for t in range(3)])
CUT = b"\n".join(SOUND.split(b"\n")[:70])
BAD = {
    "empty": (b"", "the file is empty"),
    "blank": (b" \r\n\n", "the file is empty"),
    "zero frames": (b"0\n", "the recording has 0 frames"),
    "negative frames": (b"-3\n", "line 1: the number of frames is negative (-3)"),
    "frames no number": (b"three\n", "line 1: the number of frames is 'three', not a whole number"),
    "fractional frames": (edited(0, "3.0"), "the number of frames is '3.0', not a whole number"),
    "fewer frames": (edited(0, "4"), "the file is cut: it ends before the number of bodies in frame 3 of 4"),
    "more frames": (edited(0, "2"), "line 58: there is text after the last of 2 frames"),
    "many frames": (edited(0, "9" * 30), "the file is cut"),
    "garbage at the end": (SOUND + b"1\n", "line 86: there is text after the last of 3 frames"),
    "cut between bodies": (b"\n".join(SOUND.split(b"\n")[:30]), "ends before frame 1, body 0"),
    "cut before joint count": (
        b"\n".join(SOUND.split(b"\n")[:31]),
        "ends before the number of joints in frame 1, body 0",
    ),
    "cut in a body": (
        b"\n".join(SOUND.split(b"\n")[:40]),
        "the file is cut: it ends within frame 1, body 0, of 3 frames",
    ),
    "cut in a line": (SOUND[:-8], "line 85: frame 2, body 0, joint 24 has 11 values, not 12"),
    "negative bodies": (edited(29, "-1"), "line 30: the number of bodies in frame 1 of 3 is negative (-1)"),
    "bodies no number": (edited(29, "1 2"), "the number of bodies in frame 1 of 3 is '1 2', not a whole number"),
    "blank line": (edited(29, ""), "line 30: the number of bodies in frame 1 of 3 is '', not a whole number"),
    "20 joints": (edited(31, "20"), "line 32: frame 1, body 0 has 20 joints, not 25"),
    "negative joints": (edited(31, "-25"), "the number of joints in frame 1, body 0 is negative (-25)"),
    "short body line": (edited(30, "1 2 3"), "line 31: frame 1, body 0 starts with 3 values, not 10"),
    "id in float": (edited(30, "7.2e16 0 1 1 1 1 0 0 0 2"), "the id of frame 1, body 0 is '7.2e16', not an integer"),
    "id too long": (edited(30, f"{2**63} 0 1 1 1 1 0 0 0 2"), "more than 64 bits hold"),
    "nan": (edited(34, "1 nan 1" + OTHERS), "line 35: frame 1, body 0, joint 2 has 'nan' for y, not a finite"),
    "inf": (edited(34, "-inf 1 1" + OTHERS), "joint 2 has '-inf' for x, not a finite"),
    "not in float32": (edited(34, "1 1 4e38" + OTHERS), "joint 2 has '4e38' for z, not a finite"),
    "no number": (edited(34, "1 1 1,5" + OTHERS), "joint 2 has '1,5' for z, not a finite float32 number"),
    "few values": (edited(34, "1 1" + OTHERS), "line 35: frame 1, body 0, joint 2 has 11 values, not 12"),
    "many values": (edited(34, "1 1 1 1" + OTHERS), "joint 2 has 13 values, not 12"),
    "underscore": (edited(34, "1_0 1 1" + OTHERS), "holds the byte b'_'"),
    "binary": (SOUND + b"\x00" * 9, "holds the byte b'\\x00'"),
    "odd space": (edited(34, "1 1 1\x1f" + OTHERS), "holds the byte b'\\x1f'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_place_and_fault(case: str):
    data, message = BAD[case]
    with pytest.raises(DataError) as raised:
        parse_skeleton(data, "folder/some.skeleton")
    assert str(raised.value).startswith("folder/some.skeleton")
    assert message in str(raised.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SOUND) - 2))
def test_a_file_cut_anywhere_is_refused(length: int):
    with pytest.raises(DataError):
        parse_skeleton(SOUND[:length], "x")


def test_a_count_swapped_between_two_lines_is_seen():
    data = edited(34, "1 1" + OTHERS).split(b"\n")
    data[35] = b"1 " + data[35]
    with pytest.raises(DataError, match="joint 2 has 11 values"):
        parse_skeleton(b"\n".join(data), "x")


COMING_AND_GOING: Frames = [
    [],
    [(SECOND, pose(1)), (5, pose(2))],
    [(FIRST, pose(3)), (SECOND, pose(4)), (5, pose(5))],
    [(FIRST, pose(6))],
    [(SECOND, pose(7))],
    [],
]


def test_tracks_follow_ids_that_come_and_go():
    found = tracks(parse_skeleton(written(COMING_AND_GOING), "x"))
    assert [(s.body, s.first_frame, len(s.joints)) for s in found] == [(5, 1, 2), (SECOND, 1, 4), (FIRST, 2, 2)]
    np.testing.assert_array_equal(found[0].joints, [pose(2), pose(5)])
    np.testing.assert_array_equal(found[1].joints, [pose(1), pose(4), np.zeros((25, 3)), pose(7)])
    np.testing.assert_array_equal(found[2].joints, [pose(3), pose(6)])
    assert all(s.joints.dtype == np.float32 for s in found)


def test_first_two_takes_positions_and_covers_the_recording():
    found = first_two(parse_skeleton(written(COMING_AND_GOING), "x"))
    assert [(s.body, s.first_frame, len(s.joints)) for s in found] == [(0, 0, 6), (1, 0, 6)]
    none = np.zeros((25, 3))
    np.testing.assert_array_equal(found[0].joints, [none, pose(1), pose(3), pose(6), pose(7), none])
    np.testing.assert_array_equal(found[1].joints, [none, pose(2), pose(4), none, none, none])


def test_first_two_makes_no_second_body_where_none_is():
    assert len(first_two(parse_skeleton(SOUND, "x"))) == 1
    assert first_two(parse_skeleton(b"2\n0\n0\n", "x")) == []


def test_an_id_listed_twice_in_a_frame_is_not_tracked():
    recording = parse_skeleton(written([[], [(5, pose(1)), (5, pose(2))]]), "x")
    with pytest.raises(DataError, match="x: frame 1 lists body 5 twice"):
        tracks(recording)
    assert len(first_two(recording)) == 2


def test_a_name_tells_five_numbers():
    assert parse_name("S001C002P003R002A013") == (1, 2, 3, 2, 13)
    assert parse_name("S032C001P106R001A120.skeleton").performer == 106


@pytest.mark.parametrize(
    "name", ["", "S1C2P3R2A13", "S001C002P003R002A0130", "xS001C002P003R002A013", "S001C002P003R002A01³"]
)
def test_another_name_is_refused(name: str):
    with pytest.raises(DataError, match="not a name like S001C002P003R002A013"):
        parse_name(name)


def put(folder: Path, name: str, data: bytes = SOUND) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.skeleton").write_bytes(data)


def test_the_reader_sorts_by_name_and_fills_every_field(tmp_path: Path):
    put(tmp_path / "b", "S001C001P001R001A001")
    put(tmp_path / "a", NAME, written(COMING_AND_GOING))
    (tmp_path / "notes.txt").write_text("not read")
    reader = NtuReader(tmp_path, strict=True)
    first, second = list(reader)
    assert (first.name, second.name, len(reader)) == ("S001C001P001R001A001", NAME, 2)
    assert (second.label, second.subject, second.camera, second.setup, second.frames) == (12, 3, 2, 1, 6)
    assert [s.body for s in second.sequences] == [5, SECOND, FIRST]
    assert [s.body for s in list(NtuReader(tmp_path, bodies="first-two"))[1].sequences] == [0, 1]
    assert reader.source.layout.joints == 25 and reader.source.fps == 30 and len(reader.source.classes) == 60
    assert reader.source.splits == {"xsub": ["S001C001P001R001A001"], "xview": [NAME]}


def test_bad_files_are_skipped_with_a_reason_or_raised(tmp_path: Path):
    put(tmp_path, NAME)
    put(tmp_path, "S001C001P001R001A002", CUT)
    put(tmp_path, "S001C001P001R001A003", b"2\n0\n0\n")
    put(tmp_path, "S001C001P001R001A061")
    put(tmp_path, "copy of something")
    reader = NtuReader(tmp_path)
    for _ in range(2):  # a second pass does not report twice
        assert [sample.name for sample in reader] == [NAME]
        reasons = dict(reader.skipped)
        assert len(reader.skipped) == len(reasons) == 4
    assert "the file is cut: it ends within frame 2" in reasons["S001C001P001R001A002"]
    assert "no body appears in any of its 2 frames" in reasons["S001C001P001R001A003"]
    assert "action 61 is not in NTU RGB+D 60 (1 to 60)" in reasons["S001C001P001R001A061"]
    assert "not a name like" in reasons["copy of something"]
    with pytest.raises(DataError, match="action 61 is not in"):
        NtuReader(tmp_path, strict=True)


@pytest.mark.parametrize("data", [CUT, b"2\n0\n0\n"])
def test_strict_raises_at_the_bad_file(tmp_path: Path, data: bytes):
    put(tmp_path, NAME, data)
    with pytest.raises(DataError, match=NAME):
        list(NtuReader(tmp_path, strict=True))


def test_folders_without_recordings_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="there is no such folder"):
        NtuReader(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no \.skeleton file"):
        NtuReader(tmp_path)
    put(tmp_path, "S033C001P001R001A001")
    with pytest.raises(DataError, match=r"no usable NTU recording.*setup 33 is not in NTU RGB\+D 120"):
        NtuReader(tmp_path, actions=120)


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    put(tmp_path / "a", NAME)
    put(tmp_path / "b", NAME)
    with pytest.raises(DataError, match="has the same name as"):
        NtuReader(tmp_path)


def test_the_published_constants():
    assert len(XSUB60) == 20 and len(XSUB120) == 53 and XSUB60 < XSUB120
    assert len(ACTIONS) == len(set(ACTIONS)) == 120
    assert (ACTIONS[0], ACTIONS[49], ACTIONS[59]) == (
        "drink water",
        "punching/slapping other person",
        "walking apart from each other",
    )
    assert (ACTIONS[60], ACTIONS[119]) == ("put on headphone", "finger-guessing game")


def test_120_actions_split_by_performer_and_setup():
    names = [NAME, "S002C001P045R001A120", "S032C003P106R002A061"]
    assert published_splits(names, 120) == {"xsub": [names[1]], "xset": [names[1], names[2]]}


def test_split_sizes_equal_the_published_ones():
    listed = SPEC / "ntu60_available.txt.gz"
    if not listed.exists():
        pytest.skip("the list of NTU-60's usable recordings is not here")
    names = gzip.decompress(listed.read_bytes()).decode().split()
    splits = published_splits(names, 60)
    assert (len(splits["xsub"]), len(names) - len(splits["xsub"])) == (40091, 16487)
    assert (len(splits["xview"]), len(names) - len(splits["xview"])) == (37646, 18932)


def many(folder: Path, count: int = 90) -> list[str]:
    """Recordings of one to three frames, every tenth cut; returns their names."""
    names = []
    for number in range(count):
        name = f"S001C001P{1 + number // 60:03}R001A{1 + number % 60:03}"
        frames = [[(FIRST + number, pose(number / 64 + t))] for t in range(1 + number % 3)]
        data = written(frames)
        (folder / f"{name}.skeleton").write_bytes(data[:-200] if number % 10 == 4 else data)
        names.append(name)
    return names


def test_many_processes_read_the_same_in_the_same_order(tmp_path: Path):
    names = many(tmp_path)
    one, two = NtuReader(tmp_path, workers=1), NtuReader(tmp_path, workers=2)
    expected, found = list(one), list(two)
    assert [s.name for s in found] == [s.name for s in expected] == [n for i, n in enumerate(names) if i % 10 != 4]
    for a, b in zip(expected, found, strict=True):
        assert (
            np.array_equal(a.sequences[0].joints, b.sequences[0].joints) and a.sequences[0].body == b.sequences[0].body
        )
    assert one.skipped == two.skipped and [name for name, _ in two.skipped] == names[4::10]
    two.start_after(names[60])
    assert [s.name for s in two] == [s.name for s in expected if s.name > names[60]]
    assert [name for name, _ in two.skipped] == names[64::10]
    with pytest.raises(DataError, match="is cut"):
        list(NtuReader(tmp_path, strict=True, workers=2))


def kill_worker(item: int) -> int:
    if item == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_killed_worker_is_said(tmp_path: Path):
    with pytest.raises(Interrupted, match="memory"):
        list(parallel_map(kill_worker, range(100), 2))
    assert list(parallel_map(abs, [], 2)) == [] and list(parallel_map(abs, range(33), 2)) == list(range(33))

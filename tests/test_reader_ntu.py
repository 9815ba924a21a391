"""NTU RGB+D: the tracks, the names, the published splits and the reader."""

from __future__ import annotations

import gzip
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from skeleton_cases import CUT, FIRST, SECOND, SOUND, Frames, pose, written

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
from training.data.readers.skeleton_text import parse_skeleton
from training.data.records import DataError, Interrupted

SPEC = Path(__file__).parents[2] / "shared" / "spec"
NAME = "S001C002P003R002A013"

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

"""Ghost removal with made-up ghosts: too short, too wide, static."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training import prepare
from training.data.readers.denoise import motion, wide_share, without_ghosts
from training.data.readers.ntu import NtuReader
from training.data.records import DataError, Sequence
from training.data.store import Store

NAME = "S001C002P003R002A013"


def track(body: int, frames: int = 40, wide: int = 0, moves: float = 1.0, first: int = 0) -> Sequence:
    """A body 0.4 m wide and 1.6 m tall that walks `moves` metres; in the first `wide` frames 1.4 m wide."""
    spread = np.linspace(0, 1, 25, dtype=np.float32)
    joints = np.ones((frames, 25, 3), np.float32)
    joints[..., 0] += 0.4 * spread + moves * np.linspace(0, 1, frames, dtype=np.float32)[:, None]
    joints[:wide, :, 0] += spread
    joints[..., 1] += 1.6 * spread
    return Sequence(joints, body, first)


def kept(*tracks: Sequence) -> list[int]:
    return [sequence.body for sequence in without_ghosts(list(tracks))]


def test_too_short() -> None:
    assert kept(track(1), track(2, frames=11), track(3, frames=12, first=28)) == [1, 3]
    holes = track(4, frames=20)
    holes.joints[5:14] = 0  # 11 frames are left
    assert kept(holes, track(1)) == [1]


def test_too_wide() -> None:
    assert kept(track(1, wide=27), track(2, wide=28)) == [1]  # 67.5 % and 70 % of 40
    holes = track(3, frames=60, wide=28)
    holes.joints[40:] = 0  # frames without the body do not count
    assert wide_share(holes) == pytest.approx(0.7) and kept(track(1), holes) == [1]


def test_static() -> None:
    assert kept(track(1, moves=0.01), track(2), track(3, moves=0.5)) == [2, 3]
    assert kept(track(1, moves=0.01), track(2)) == [1, 2]  # two at a time may stay
    later = track(4, moves=0.01, first=40)
    assert kept(track(1), track(2), later) == [1, 2, 4]  # nobody else is seen then


def test_no_recording_is_lost() -> None:
    assert kept(track(1, frames=5)) == [1] and kept(track(1, wide=40)) == [1]
    assert kept(track(1, frames=5), track(2, frames=6, first=5)) == [1, 2]
    assert kept(track(1, wide=40), track(2, frames=3)) == [1]
    empty = Sequence(np.zeros((4, 25, 3), np.float32))
    assert (wide_share(empty), motion(empty)) == (0, 0) and kept(empty) == [0]


def test_motion_is_the_sum_of_variances() -> None:
    joints = np.random.default_rng(0).normal(size=(30, 25, 3)).astype(np.float32)
    expected = sum(joints[..., axis].astype(float).var() for axis in range(3))
    assert motion(Sequence(joints)) == pytest.approx(expected)


def write_raw(folder: Path) -> None:
    folder.mkdir()
    lines = ["20"]
    person, ghost = track(5, frames=20), track(6, frames=20, wide=20)
    for frame in range(20):
        lines.append("2")
        for sequence in (person, ghost):
            lines += [f"{sequence.body} 0 1 1 1 1 0 0 0 2", "25"]
            lines += [" ".join(map(str, xyz.tolist())) + " 1 1 1 1 0 0 0 1 2" for xyz in sequence.joints[frame]]
    (folder / f"{NAME}.skeleton").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("command", ["ntu60", "ntu120"])
def test_the_command_and_what_the_store_records(tmp_path: Path, command: str) -> None:
    write_raw(tmp_path / "raw")
    for option, bodies in ((["--denoise"], [5]), ([], [5, 6])):
        out = tmp_path / f"{len(option)}.zarr"
        prepare.main([command, str(out), "--raw", str(tmp_path / "raw"), "--workers", "1", *option])
        assert Store.open(out).sequence_body.tolist() == bodies
        assert f'"denoise": {"true" if option else "false"}' in (out / "zarr.json").read_text()


def test_first_two_cannot_be_denoised(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    with pytest.raises(DataError, match="cannot go with --bodies first-two"):
        NtuReader(tmp_path / "raw", bodies="first-two", denoise=True)

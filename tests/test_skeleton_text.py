"""The `.skeleton` text: every value comes back, and every fault is named with its place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skeleton_cases import FIRST, OTHERS, SECOND, SOUND, Frames, pose, written

from training.data.readers.skeleton_text import first_decimals, parse_skeleton
from training.data.records import DataError

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

"""The `.skeleton` text format of NTU RGB+D, parsed as one array of bytes.

Lines: the number of frames; per frame the number of bodies; per body a line of 10 values (the first is its id), the
number of joints, and for each joint a line of 12 values (x y z in metres, then nine that are not read here).
A reader that calls `float` on each value spends most of its time there, hence `decimals`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..records import DataError

JOINTS = 25
BODY_FIELDS = 10
JOINT_FIELDS = 12
# Printable ASCII, tab and line ends, less "_": int() and float() would read 1_0 as 10.
LEGAL = bytes({*range(32, 127), *b"\t\r\n"} - {*b"_"})
PLAIN_WIDTH = 16  # a decimal point and 15 digits: both the digits and the power of ten are exact in float64
POWERS = np.array([float(10**k) for k in range(PLAIN_WIDTH)])


@dataclass(frozen=True)
class Recording:
    """One file: each appearance of a body in a frame, in the order of the file. N appearances."""

    where: str  # for messages
    frames: int
    frame: np.ndarray  # [N] int64, from 0
    position: np.ndarray  # [N] int64, place in the frame's listing, from 0
    body: np.ndarray  # [N] int64, the sensor's id
    joints: np.ndarray  # [N, 25, 3] float32, metres


class _Place(NamedTuple):
    """One body in one frame, and the line (from 0) of its first joint."""

    line: int
    frame: int
    position: int


class _Text:
    """The tokens of a text and the lines they stand in. Token k is `data[starts[k]:ends[k]]`."""

    def __init__(self, data: bytes, where: str) -> None:
        self.where = where
        self.data = data.rstrip()
        self.codes = np.frombuffer(self.data, np.uint8)
        space = np.ones(len(self.codes) + 2, bool)
        np.less_equal(self.codes, ord(" "), out=space[1:-1])
        edges = np.flatnonzero(space[1:] != space[:-1])
        self.starts, self.ends = edges[0::2], edges[1::2]
        breaks = np.searchsorted(self.starts, np.flatnonzero(self.codes == ord("\n")))
        self.first = np.concatenate([[0], breaks, [len(self.starts)]])  # line l: tokens first[l] to first[l + 1]
        self.lines = self.data.split(b"\n")

    def line(self, at: int, what: str) -> bytes:
        if at >= len(self.lines):
            raise DataError(f"{self.where}: the file is cut: it ends before {what}")
        return self.lines[at]

    def count(self, at: int, what: str) -> int:
        """The number that stands alone on line `at`."""
        line = self.line(at, what)
        try:
            count = int(line)
        except ValueError:
            raise self.error(at, f"{what} is {_shown(line)}, not a whole number") from None
        if count < 0:
            raise self.error(at, f"{what} is negative ({count})")
        return count

    def body_id(self, at: int, what: str) -> int:
        """An integer all the way: float64 merges ids of 17 digits."""
        fields = self.line(at, what).split()
        if len(fields) != BODY_FIELDS:
            raise self.error(at, f"{what} starts with {len(fields)} values, not {BODY_FIELDS}")
        try:
            body = int(fields[0])
        except ValueError:
            raise self.error(at, f"the id of {what} is {_shown(fields[0])}, not an integer") from None
        if not -(2**63) <= body < 2**63:
            raise self.error(at, f"the id of {what} is {body}, more than 64 bits hold")
        return body

    def error(self, at: int, problem: str) -> DataError:
        return DataError(f"{self.where}, line {at + 1}: {problem}")


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("ascii").strip())


def parse_skeleton(data: bytes, where: str) -> Recording:
    """The bodies in a `.skeleton` file's bytes; `where` names the file in messages.

    Raises DataError, with the line, frame and body, for a file that is empty, cut, longer than it says, or holds
    anything but finite coordinates. Frames without bodies and recordings without any body are legal.
    """
    if odd := data.translate(None, delete=LEGAL):
        raise DataError(f"{where}: holds the byte {odd[:1]!r}, which no .skeleton text has")
    text = _Text(data, where)
    if not text.data:
        raise DataError(f"{where}: the file is empty")
    frames = text.count(0, "the number of frames")
    if frames == 0:
        raise DataError(f"{where}: the recording has 0 frames")
    places, ids = _walk(text, frames)
    return Recording(
        where,
        frames,
        frame=np.array([place.frame for place in places], np.int64),
        position=np.array([place.position for place in places], np.int64),
        body=np.array(ids, np.int64),
        joints=_joints(text, places),
    )


def _walk(text: _Text, frames: int) -> tuple[list[_Place], list[int]]:
    """Where the bodies stand, and their ids; checks that the counts use up the file exactly."""
    at = 1
    places: list[_Place] = []
    ids: list[int] = []
    for frame in range(frames):
        bodies = text.count(at, f"the number of bodies in frame {frame} of {frames}")
        at += 1
        for position in range(bodies):
            what = f"frame {frame}, body {position}"
            ids.append(text.body_id(at, what))
            if (count := text.count(at + 1, f"the number of joints in {what}")) != JOINTS:
                raise text.error(at + 1, f"{what} has {count} joints, not {JOINTS}")
            places.append(_Place(at + 2, frame, position))
            at += 2 + JOINTS
            if at > len(text.lines):
                raise DataError(f"{text.where}: the file is cut: it ends within {what}, of {frames} frames")
    if at < len(text.lines):
        raise text.error(at, f"there is text after the last of {frames} frames")
    return places, ids


def _joints(text: _Text, places: list[_Place]) -> np.ndarray:
    """[N, 25, 3] float32 from the 25 lines at each place."""
    rows = np.array([place.line for place in places], np.int64)[:, None] + np.arange(JOINTS)
    fields = np.diff(text.first)[rows]
    for block, joint in np.argwhere(fields != JOINT_FIELDS):
        raise _joint_error(text, places[block], joint, f"{fields[block, joint]} values, not {JOINT_FIELDS}")
    tokens = text.first[rows][:, :, None] + np.arange(3)
    with np.errstate(over="ignore"):  # becomes inf and is refused
        joints = decimals(text.data, text.starts[tokens], text.ends[tokens]).astype(np.float32)
    for block, joint, axis in np.argwhere(~np.isfinite(joints)):
        token = tokens[block, joint, axis]
        shown = _shown(text.data[text.starts[token] : text.ends[token]])
        raise _joint_error(text, places[block], joint, f"{shown} for {'xyz'[axis]}, not a finite float32 number")
    return joints


def _joint_error(text: _Text, place: _Place, joint: int, problem: str) -> DataError:
    what = f"frame {place.frame}, body {place.position}, joint {joint}"
    return text.error(place.line + joint, f"{what} has {problem}")


def decimals(data: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """`float(data[start:end])` of each token, bit for bit, as float64 in the shape of `starts`; nan if no number.

    Plain decimals such as -0.171228 are built column by column: an integer below 10^15, divided by a power of ten up
    to 10^15. Both are exact in float64, so the one rounding is the division's (Clinger, PLDI 1990, the fast path).
    """
    codes = np.frombuffer(data, np.uint8)
    negative = codes.take(starts) == ord("-")
    first = starts + negative
    width = ends - first
    plain = width <= PLAIN_WIDTH
    value = np.zeros(starts.shape)
    points = np.zeros(starts.shape, np.int64)
    fraction = np.zeros(starts.shape, np.int64)  # digits after the point
    for column in range(min(PLAIN_WIDTH, int(width.max(initial=0)))):
        code = codes.take(first + column, mode="clip")
        inside = column < width
        point = inside & (code == ord("."))
        code -= ord("0")  # wraps: all but the digits become 10 or more
        digit = inside & (code < 10)
        plain &= digit | point | ~inside
        value = np.where(digit, 10 * value + code, value)
        points += point
        np.copyto(fraction, width - 1 - column, where=point)
    plain &= (points <= 1) & (width > points)
    value /= POWERS[np.where(plain, fraction, 0)]
    np.negative(value, out=value, where=negative)
    for index in map(tuple, np.argwhere(~plain)):
        value[index] = _number(data[starts[index] : ends[index]])
    return value


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")

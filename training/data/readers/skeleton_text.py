"""The `.skeleton` text format of NTU RGB+D, parsed as one array of bytes.

Lines: the number of frames; per frame the number of bodies; per body a line of 10 values (the first is its id), the
number of joints, and for each joint a line of 12 values (x y z in metres, then nine that are not read here).
A reader that splits each line and calls `float` on each value spends its time there. Here the lines of all joints are
taken at once: their values counted, and the first three read from eight bytes at a time (`first_decimals`).
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
FRACTION = 14  # digits after the point; with the one before it an integer that is exact in float64
POWERS = np.array([10**k for k in range(FRACTION + 1)], np.uint64)
# Eight bytes at a time, as one integer.
LOW, PAIRS = np.uint64(0xFF), np.uint64(0x000000FF000000FF)
HIGHEST, ZEROS = (np.uint64(0x0101010101010101 * byte) for byte in (0x80, ord("0")))
PRINTED, ABOVE_NINE = (np.uint64(0x0101010101010101 * byte) for byte in (0x80 - 33, 0x80 - 10))  # reach 0x80
BODY = "frame %d, body %d"
COUNTED = f"the number of joints in {BODY}"


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
    """A text and its lines: line l is `data[begin[l] : begin[l + 1] - 1]` and holds `fields[l]` values."""

    def __init__(self, data: bytes, where: str) -> None:
        self.where = where
        self.data = data.rstrip()
        codes = np.frombuffer(self.data, np.uint8)
        space = np.ones(len(codes) + 1, bool)
        np.less_equal(codes, ord(" "), out=space[1:])
        self.begin = np.concatenate([[0], np.flatnonzero(codes == ord("\n")) + 1, [len(codes) + 1]])
        self.lines = len(self.begin) - 1
        values = (space[:-1] > space[1:]).view(np.uint8)  # 1 where one begins
        self.fields = np.add.reduceat(values, self.begin[:-1], dtype=np.uint8) if len(codes) else np.zeros(1, np.uint8)
        for long in np.flatnonzero(np.diff(self.begin) > 2 * 255).tolist():  # a byte might not hold their number
            self.fields[long] = min(255, len(self.line(long, "").split()))

    def line(self, at: int, what: str, *place: int) -> bytes:
        """Line `at`; `what % place` names it, which is put together only for an error."""
        if at >= self.lines:
            raise DataError(f"{self.where}: the file is cut: it ends before {what % place}")
        return self.data[self.begin.item(at) : self.begin.item(at + 1) - 1]

    def count(self, at: int, what: str, *place: int) -> int:
        """The number that stands alone on line `at`."""
        line = self.line(at, what, *place)
        try:
            count = int(line)
        except ValueError:
            raise self.error(at, f"{what % place} is {_shown(line)}, not a whole number") from None
        if count < 0:
            raise self.error(at, f"{what % place} is negative ({count})")
        return count

    def body_id(self, at: int, *place: int) -> int:
        """An integer all the way: float64 merges ids of 17 digits."""
        line = self.line(at, BODY, *place)
        if (fields := self.fields.item(at)) != BODY_FIELDS:
            raise self.error(at, f"{BODY % place} starts with {fields} values, not {BODY_FIELDS}")
        first = line.split(None, 1)[0]
        try:
            body = int(first)
        except ValueError:
            raise self.error(at, f"the id of {BODY % place} is {_shown(first)}, not an integer") from None
        if not -(2**63) <= body < 2**63:
            raise self.error(at, f"the id of {BODY % place} is {body}, more than 64 bits hold")
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
    if not _legal(data):
        odd = data.translate(None, delete=LEGAL)
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


def _legal(data: bytes) -> bool:
    """Whether all bytes are in LEGAL; faster than a translation, which would say which is not."""
    codes = np.frombuffer(data, np.uint8)
    controls = sum(np.count_nonzero(codes == code) for code in b"\t\r\n")
    return b"_" not in data and codes.max(initial=0) < 127 and np.count_nonzero(codes < ord(" ")) == controls


def _walk(text: _Text, frames: int) -> tuple[list[_Place], list[int]]:
    """Where the bodies stand, and their ids; checks that the counts use up the file exactly."""
    at = 1
    places: list[_Place] = []
    ids: list[int] = []
    for frame in range(frames):
        bodies = text.count(at, "the number of bodies in frame %d of %d", frame, frames)
        at += 1
        for position in range(bodies):
            ids.append(text.body_id(at, frame, position))
            if (count := text.count(at + 1, COUNTED, frame, position)) != JOINTS:
                raise text.error(at + 1, f"{BODY % (frame, position)} has {count} joints, not {JOINTS}")
            places.append(_Place(at + 2, frame, position))
            at += 2 + JOINTS
            if at > text.lines:
                what = BODY % (frame, position)
                raise DataError(f"{text.where}: the file is cut: it ends within {what}, of {frames} frames")
    if at < text.lines:
        raise text.error(at, f"there is text after the last of {frames} frames")
    return places, ids


def _joints(text: _Text, places: list[_Place]) -> np.ndarray:
    """[N, 25, 3] float32 from the 25 lines at each place."""
    rows = np.array([place.line for place in places], np.int64)[:, None] + np.arange(JOINTS)
    fields = text.fields[rows]
    for block, joint in np.argwhere(fields != JOINT_FIELDS):
        raise _joint_error(text, places[block], joint, f"{fields[block, joint]} values, not {JOINT_FIELDS}")
    with np.errstate(over="ignore"):  # becomes inf and is refused
        joints = first_decimals(text.data, text.begin[rows.ravel()]).astype(np.float32).reshape(*rows.shape, 3)
    for block, joint, axis in np.argwhere(~np.isfinite(joints)):
        shown = _shown(text.line(rows[block, joint], "").split()[axis])
        raise _joint_error(text, places[block], joint, f"{shown} for {'xyz'[axis]}, not a finite float32 number")
    return joints


def _joint_error(text: _Text, place: _Place, joint: int, problem: str) -> DataError:
    body = BODY % (place.frame, place.position)
    return text.error(place.line + joint, f"{body}, joint {joint} has {problem}")


def first_decimals(data: bytes, begin: np.ndarray) -> np.ndarray:
    """`float` of the first three values of the lines that begin at `begin` [L], bit for bit: [L, 3]; nan if no number.

    Plain decimals such as -0.171228 (one digit before the point, 1 to 14 after it), apart by one byte, are an integer
    below 10^15 divided by a power of ten: both are exact in float64, so the one rounding is the division's (Clinger,
    PLDI 1990, the fast path). Lines with any other value go through `float`.
    """
    padded = np.frombuffer(data + b" " * 64, np.uint8)
    values, plain, at = np.empty((len(begin), 3)), np.ones(len(begin), bool), begin
    for column in range(3):
        at = np.minimum(at, len(data))
        values[:, column], fits, end = _decimal(padded, at)
        plain &= fits
        at = end + 1
    for line in np.flatnonzero(~plain):
        first = begin[line]
        values[line] = [_number(text) for text in data[first:].split(b"\n", 1)[0].split(None, 3)[:3]]
    return values


def _decimal(codes: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The plain decimal at each place `at` [L], as float64, whether there is one, and where it ends."""
    words = np.ndarray(len(codes) - 7, "<u8", codes, strides=(1,))  # the eight bytes from each place, the first lowest
    head = words[at]
    negative = head & LOW == ord("-")
    head >>= negative.astype(np.uint64) << np.uint64(3)
    lead = (head & LOW) - np.uint64(ord("0"))  # wraps: all but the digits become 10 or more
    fraction = at + 2 + negative
    number, count, fits = _digits(words[fraction])
    if (long := np.flatnonzero(count == 8)).size:
        low, more, low_fits = _digits(words[fraction[long] + 8])
        number[long] = number[long] * POWERS[more] + low
        count[long] += more
        fits[long] &= low_fits
    fits &= (lead < 10) & (head >> np.uint64(8) & LOW == ord(".")) & (count > 0) & (count <= FRACTION)
    power = POWERS.take(count, mode="clip")
    value = (lead * power + number).astype(np.float64)
    value /= power
    np.negative(value, out=value, where=negative)
    return value, fits, fraction + count


def _digits(word: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The number that the bytes before the first space spell, how many they are (0 to 8), and whether all are digits.

    Shifted, so that zeros take the place of the digits that are not there, the bytes are summed up in three steps:
    pairs, fours, all eight (Lemire, "Quickly parsing eight digits", 2018).
    """
    spaces = ~(word + PRINTED) & HIGHEST  # the highest bit of each byte up to 32; all are below 128
    lowest = (spaces & -spaces).astype(np.float64)  # a power of two, whose exponent tells which; 0 where there is none
    count = ((lowest.view(np.int64) >> 52) - 1023 >> 3).clip(-1)
    count[count < 0] = 8
    word = (word - ZEROS << (8 - count << 3).astype(np.uint64)) * (count > 0)
    digits = (word | word + ABOVE_NINE) & HIGHEST == 0
    word = word * np.uint64(10) + (word >> np.uint64(8))
    word = (word & PAIRS) * np.uint64(100 + (1000000 << 32)) + (word >> np.uint64(16) & PAIRS) * np.uint64(
        1 + (10000 << 32)
    )
    return word >> np.uint64(32), count, digits


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")

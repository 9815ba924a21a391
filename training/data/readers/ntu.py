"""NTU RGB+D 60 and 120: the `.skeleton` files of a folder, one recording each, and the published splits.

Names, splits and actions: Shahroudy et al., CVPR 2016 (NTU RGB+D); Liu et al., TPAMI 2019 (NTU RGB+D 120).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hitrs_fast.skeleton import NTU25

from ..records import DataError, Sample, Sequence, Source
from .denoise import without_ghosts
from .folder import FolderReader
from .parallel import default_workers, parallel_map
from .skeleton_text import JOINTS, Recording, parse_skeleton

FPS = 30.0


class RecordingName(NamedTuple):
    """What the name of a recording says; all numbers count from 1."""

    setup: int
    camera: int
    performer: int
    replication: int
    action: int


LARGEST = {60: RecordingName(17, 3, 40, 2, 60), 120: RecordingName(32, 3, 106, 2, 120)}
XSUB60 = frozenset({1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38})
XSUB120 = XSUB60 | {
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89),
    *(91, 92, 93, 94, 95, 97, 98, 100, 103),
}
# Usable recordings and how many of them train: 302 and 535 of 56,880 and 114,480 hold no usable skeleton.
PUBLISHED = {
    60: {"samples": 56_578, "xsub": 40_091, "xview": 37_646},
    120: {"samples": 113_945, "xsub": 63_026, "xset": 54_468},
}
UNUSABLE = frozenset(
    line for line in (Path(__file__).parent / "ntu_unusable.txt").read_text().split("\n") if line.startswith("S")
)
XVIEW = frozenset({2, 3})  # training cameras; cross-set trains on the even setups
# The data set's own list of actions, A001 first.
_ACTIONS = """
    drink water; eat meal/snack; brushing teeth; brushing hair; drop; pickup; throw; sitting down; standing up;
    clapping; reading; writing; tear up paper; wear jacket; take off jacket; wear a shoe; take off a shoe;
    wear on glasses; take off glasses; put on a hat/cap; take off a hat/cap; cheer up; hand waving; kicking something;
    reach into pocket; hopping; jump up; make/answer a phone call; playing with phone/tablet; typing on a keyboard;
    pointing to something with finger; taking a selfie; check time (from watch); rub two hands together; nod head/bow;
    shake head; wipe face; salute; put the palms together; cross hands in front; sneeze/cough; staggering; falling;
    touch head (headache); touch chest (stomachache/heart pain); touch back (backache); touch neck (neckache);
    nausea/vomiting; use a fan/feeling warm; punching/slapping other person; kicking other person;
    pushing other person; pat on back of other person; point finger at the other person; hugging other person;
    giving something to other person; touch other person's pocket; handshaking; walking towards each other;
    walking apart from each other; put on headphone; take off headphone; shoot at the basket; bounce ball;
    tennis bat swing; juggling table tennis balls; hush; flick hair; thumb up; thumb down; make ok sign;
    make victory sign; staple book; counting money; cutting nails; cutting paper; snapping fingers; open bottle; sniff;
    squat down; toss a coin; fold paper; ball up paper; play magic cube; apply cream on face; apply cream on hand back;
    put on bag; take off bag; put something into a bag; take something out of a bag; open a box; move heavy objects;
    shake fist; throw up cap/hat; hands up; cross arms; arm circles; arm swings; running on the spot; butt kicks;
    cross toe touch; side kick; yawn; stretch oneself; blow nose; hit other person with something;
    wield knife towards other person; knock over other person; grab other person's stuff;
    shoot at other person with a gun; step on foot; high-five; cheers and drink; carry something with other person;
    take a photo of other person; follow other person; whisper in other person's ear;
    exchange things with other person; support somebody with one's hand; finger-guessing game
"""
ACTIONS = tuple(" ".join(_ACTIONS.split()).split("; "))


def parse_name(name: str) -> RecordingName:
    """The numbers in `SsssCcccPpppRrrrAaaa`, with or without `.skeleton`; DataError for any other name."""
    match = re.fullmatch(r"S([0-9]{3})C([0-9]{3})P([0-9]{3})R([0-9]{3})A([0-9]{3})(?:\.skeleton)?", name)
    if match is None:
        raise DataError(f"{name}: not a name like S001C002P003R002A013, so action and performer are unknown")
    return RecordingName(*(int(digits) for digits in match.groups()))


def tracks(recording: Recording) -> list[Sequence]:
    """One sequence per body id, from its first to its last appearance, zeros where it is missing in between.

    Ordered by first appearance, then by id. DataError where a frame lists one id twice.
    """
    found = []
    for body in np.unique(recording.body):
        rows = recording.body == body
        frames = recording.frame[rows]
        repeated = frames[1:][np.diff(frames) == 0]
        if repeated.size:
            raise DataError(
                f"{recording.where}: frame {repeated[0]} lists body {body} twice, so it cannot be tracked by id "
                "(bodies=first-two does not need ids)"
            )
        first = int(frames[0])
        joints = np.zeros((int(frames[-1]) - first + 1, JOINTS, 3), np.float32)
        joints[frames - first] = recording.joints[rows]
        found.append(Sequence(joints, int(body), first))
    return sorted(found, key=lambda sequence: (sequence.first_frame, sequence.body))


def first_two(recording: Recording) -> list[Sequence]:
    """The Hi-TRS authors' way: the first and the second body of each frame's listing, whoever they are.

    Each sequence covers the whole recording, zeros where absent; its body id is its position, 0 or 1.
    """
    found = []
    for position in range(min(2, int(recording.position.max(initial=-1)) + 1)):
        rows = recording.position == position
        joints = np.zeros((recording.frames, JOINTS, 3), np.float32)
        joints[recording.frame[rows]] = recording.joints[rows]
        found.append(Sequence(joints, position))
    return found


BODIES = {"tracked": tracks, "first-two": first_two}


def published_splits(names: list[str], actions: int) -> dict[str, list[str]]:
    """The names of the training recordings, by split: xsub and xview for 60 actions, xsub and xset for 120."""
    parsed = [(name, parse_name(name)) for name in names]
    performers = XSUB60 if actions == 60 else XSUB120
    xsub = [name for name, p in parsed if p.performer in performers]
    if actions == 60:
        return {"xsub": xsub, "xview": [name for name, p in parsed if p.camera in XVIEW]}
    return {"xsub": xsub, "xset": [name for name, p in parsed if p.setup % 2 == 0]}


class NtuReader(FolderReader):
    """Reads the `*.skeleton` files below `folder`, sorted by name, by `workers` processes (as many as there are cores).

    `bodies` is "tracked" or "first-two", `actions` 60 or 120; `denoise` drops ghosts from tracked bodies. A file that
    cannot be used, or in which no body appears, is appended to `skipped`; `strict` raises DataError instead. The
    splits are computed from the names of all these files, so they may name recordings that are skipped later. `len`
    counts the files to be tried.
    """

    def __init__(
        self,
        folder: str | Path,
        bodies: str = "tracked",
        actions: int = 60,
        strict: bool = False,
        workers: int | None = None,
        denoise: bool = False,
    ) -> None:
        if bodies not in BODIES:
            raise ValueError(f"bodies is {bodies!r}, not one of {', '.join(BODIES)}")
        if actions not in LARGEST:
            raise ValueError(f"actions is {actions}, not 60 or 120")
        if workers is not None and workers < 1:
            raise DataError(f"workers is {workers}; it must be at least 1")
        if denoise and bodies != "tracked":
            raise DataError(f"--denoise drops tracks, so it cannot go with --bodies {bodies}; leave one of them out")
        super().__init__(strict)
        self._bodies, self._actions, self._denoise = bodies, actions, denoise
        self._workers = workers or default_workers()
        self.take(self._usable(_skeleton_files(Path(folder))))
        if not self._files:
            raise DataError(f"{folder}: no usable NTU recording; the first problem is: {self.skipped[0][1]}")
        self.source = Source(
            layout=NTU25,
            fps=FPS,
            classes=list(ACTIONS[:actions]),
            reader="ntu",
            options={"bodies": bodies, "actions": actions, "strict": strict, "denoise": denoise},
            path=str(folder),
            splits=published_splits(list(self._files), actions),
            published=PUBLISHED[actions],
        )

    def _usable(self, files: list[Path]) -> dict[str, Path]:
        """Recordings whose names belong to this data set; two files of one name are an error in any mode."""
        usable: dict[str, Path] = {}
        for file in files:
            if file.stem in UNUSABLE:  # no fault of the user's files, so not even `strict` stops here
                self.skipped.append((file.stem, "the data set's authors list its skeleton as missing or incomplete"))
                continue
            try:
                self._check_name(file)
            except DataError as error:
                self.skip(file.stem, error)
                continue
            if file.stem in usable:
                raise DataError(f"{file}: has the same name as {usable[file.stem]}; keep one of them")
            usable[file.stem] = file
        return usable

    def _check_name(self, file: Path) -> None:
        parsed = parse_name(file.name)
        for what, value, largest in zip(parsed._fields, parsed, LARGEST[self._actions], strict=True):
            if not 1 <= value <= largest:
                raise DataError(f"{file}: {what} {value} is not in NTU RGB+D {self._actions} (1 to {largest})")

    def results(self, files: Mapping[str, Path]) -> Iterator[list[Sample] | DataError]:
        """By many processes."""
        read = partial(_samples_or_error, bodies=self._bodies, denoise=self._denoise)
        return parallel_map(read, files.values(), self._workers)


def _samples_or_error(file: Path, bodies: str, denoise: bool) -> list[Sample] | DataError:
    try:
        return [_sample(file, bodies, denoise)]
    except DataError as error:
        return error


def _sample(file: Path, bodies: str, denoise: bool) -> Sample:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    recording = parse_skeleton(data, str(file))
    sequences = BODIES[bodies](recording)
    if not sequences:
        raise DataError(f"{file}: no body appears in any of its {recording.frames} frames")
    if denoise:
        sequences = without_ghosts(sequences)
    parsed = parse_name(file.stem)
    return Sample(
        file.stem,
        recording.frames,
        sequences,
        label=parsed.action - 1,
        subject=parsed.performer,
        camera=parsed.camera,
        setup=parsed.setup,
    )


def _skeleton_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; give the one that holds the .skeleton files")
    files = sorted((f for f in folder.rglob("*.skeleton") if f.is_file()), key=lambda f: (f.name, str(f)))
    if not files:
        raise DataError(f"{folder}: holds no .skeleton file; unpack the data set's skeleton archives there")
    return files

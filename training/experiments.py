"""The paper's tables as runs of the other commands, and the cells that their figures fill.

Levels are named as in the paper: F the frame's task (joints), C the clip's (order of frames), V the video's two (order
of clips, and the contrast of last clips).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hitrs_fast import HiTRSConfig
from hitrs_fast.skeleton import STREAMS

from . import paper
from .data.records import DataError
from .grouping import USUAL_FPS, in_frames
from .roles import Roles

LEVELS = ("none", "F", "C", "V", "FC", "FV", "CV", "FCV")
PRETRAINING_DILATE = HiTRSConfig.dilate  # at 30 frames a second
FRACTIONS = ("0.01", "0.05", "0.1", "1")


@dataclass(frozen=True)
class Scale:
    """How long the runs of a scale are: what is added to the commands."""

    preset: str
    note: str
    pretrain: tuple[str, ...] = ()
    pretrain_streams: tuple[str, ...] = ()
    """The same on untrimmed recordings, of which one holds as much as many samples."""
    tune: tuple[str, ...] = ()
    ablation: str = "1"
    """Part of the labels that table 4 is made with."""


SCALES = {
    "paper": Scale("paper", "the paper's preset and schedules"),
    "small": Scale(
        "small",
        "the small preset, 600 steps of pre-training (about 20 epochs of NW-UCLA; streams 200 of 16), a tenth of the "
        "labels in table 4",
        ("--steps", "600"),
        ("--steps", "200", "--batch-size", "16"),
        ablation="0.1",
    ),
    "tiny": Scale(
        "small",
        "a check of the plumbing only: at most 4 epochs of 200 sequences",
        ("--steps", "25"),
        ("--steps", "5", "--batch-size", "16"),
        ("--epochs", "4"),
        ablation="0.1",
    ),
}


@dataclass(frozen=True)
class Run:
    name: str
    command: tuple[str, ...]
    """The module under `training` and its arguments, without --run and --init."""
    init: str | None = None
    """The run whose encoder it starts from."""
    inputs: tuple[str, ...] = ()
    """The runs that it fuses."""


class Cell(NamedTuple):
    row: str
    column: str
    run: str | None
    """None: what it needs is not given."""


@dataclass
class Study:
    """Runs in an order in which each finds what it needs, and the cells of the tables that they fill."""

    roles: Roles
    scale: Scale
    seeds: tuple[int, ...]
    runs: dict[str, Run] = field(default_factory=dict)
    tables: dict[str, list[Cell]] = field(default_factory=dict)

    def add(self, name: str, *command: str, init: str | None = None, inputs: tuple[str, ...] = ()) -> str:
        run = Run(name, command, init, inputs)
        if self.runs.setdefault(name, run) != run:
            raise AssertionError(f"two runs are named {name}")
        return name

    def pretrained(self, store: str, levels: str = "FCV", stream: str = "joint") -> str | None:
        """The pre-training of these levels, or None for none of them."""
        if levels == "none":
            return None
        weights = {"spatial": "F" in levels, "clip": "C" in levels, "video": "V" in levels, "contrast": "V" in levels}
        return self._pretraining(store, levels, stream, weights)

    def contrast_only(self, store: str) -> str:
        """Video-level contrast alone: what the paper argues against."""
        return self._pretraining(store, "contrast", "joint", {"spatial": 0, "clip": 0, "video": 0, "contrast": 1})

    def _pretraining(self, store: str, what: str, stream: str, weights: Mapping[str, int]) -> str:
        off = [word for task, on in weights.items() if not on for word in (f"--weights.{task}", "0")]
        streams = store == self.roles.detection
        length = (*self.scale.pretrain_streams, *self._dilate(store)) if streams else self.scale.pretrain
        options = ("--preset", self.scale.preset, "--stream", stream, *length, *off)
        name = f"pretrain-{self.roles.name(store)}-{stream}-{what}"
        return self.add(name, "pretrain", "--data", store, *options)

    def _dilate(self, store: str) -> tuple[str, ...]:
        """On streams of another rate, about as long clips as at 30 frames a second.

        The encoders of other tasks keep the preset's dilate, which those from scratch have too.
        """
        dilate = max(1, in_frames(PRETRAINING_DILATE, self.roles.rates.get(store, USUAL_FPS)))
        return () if dilate == PRETRAINING_DILATE else ("--dilate", str(dilate))

    def tuned(self, task: str, store: str, start: str | None, about: str, *options: str) -> str:
        """A run of `recognize`, `detect` or `predict` for every seed, from the encoder of `start` or from scratch."""
        seeds = ("--seeds", *map(str, self.seeds))
        common = ("--data", store, "--preset", self.scale.preset, *seeds, *self.scale.tune)
        return self.add(f"{task}-{self.roles.name(store)}-{about}", task, *common, *options, init=start)

    def recognised(self, start: str | None, about: str, fraction: str = "1", stream: str = "joint") -> str | None:
        store = self.roles.recognition
        if store is None:
            return None
        protocol = () if fraction == "1" else ("--protocol", "semi", "--fraction", fraction)
        stream_option = () if start else ("--stream", stream)
        return self.tuned("recognize", store, start, f"{stream}-{about}-{fraction}", *protocol, *stream_option)

    def fused(self, runs: Iterable[str | None], about: str) -> str | None:
        present = tuple(run for run in runs if run is not None)
        return self.add(f"fused-{about}", "evaluate", "fuse", inputs=present) if present else None

    def cells(self, table: str, *cells: Cell) -> None:
        self.tables.setdefault(table, []).extend(cells)


def table1(study: Study) -> None:
    _streams(study, "table1", {"top1": "1"})


def table2(study: Study) -> None:
    _streams(study, "table2", {"1%": "0.01", "5%": "0.05", "10%": "0.1"})


def _streams(study: Study, table: str, fractions: dict[str, str]) -> None:
    """Pre-trained recognition by the joint stream, and fused with the bone and the motion stream (the first seed)."""
    for column, fraction in fractions.items():
        runs: list[str | None] = []
        for stream in STREAMS:
            start = study.pretrained(study.roles.recognition, stream=stream) if study.roles.recognition else None
            runs.append(study.recognised(start, "FCV", fraction, stream))
            row = " ".join(STREAMS[: len(runs)])
            run = runs[0] if len(runs) == 1 else study.fused(runs, f"{row.replace(' ', '-')}-{fraction}")
            study.cells(table, Cell(row, column, run))


def table3(study: Study) -> None:
    """From scratch, pre-trained on the data themselves, and pre-trained on another data set."""
    for task, store, columns in _tasks(study):
        other = study.roles.source
        if store is None or other == store or (other and not study.roles.fit(other, store)):
            other = None
        for row, source, about in (
            ("scratch", None, "none"),
            ("own data", store, "FCV"),
            ("transferred", other, "other"),
        ):
            run = None
            if store is not None and (source is not None or row == "scratch"):
                run = _of_task(study, task, store, study.pretrained(source) if source else None, about)
            study.cells("table3", *(Cell(row, column, run) for column in columns))


def _of_task(study: Study, task: str, store: str, start: str | None, about: str) -> str | None:
    if task == "recognize":
        return study.recognised(start, about, study.scale.ablation)
    return study.tuned(task, store, start, about)


def _tasks(study: Study) -> list[tuple[str, str | None, tuple[str, ...]]]:
    roles = study.roles
    return [
        ("recognize", roles.recognition, ("top1",)),
        ("detect", roles.detection, ("map_a", "map_v")),
        ("predict", roles.prediction, ("mpjpe_mm",)),
    ]


def table4(study: Study) -> None:
    """Which levels are pre-trained; below them the baselines that the claim "levels add up" argues with."""
    store, fraction = study.roles.recognition, study.scale.ablation
    for levels in LEVELS:
        start = study.pretrained(store, levels) if store else None
        study.cells("table4", Cell(levels, "top1", study.recognised(start, levels, fraction)))
        _motion(study, levels)
    if store is None:
        return
    contrast = study.contrast_only(store)
    study.cells("table4", Cell("contrast alone", "top1", study.recognised(contrast, "contrast", fraction)))
    frozen = study.tuned("recognize", store, None, "random-frozen", "--protocol", "linear", "--fraction", fraction)
    study.cells("table4", Cell("random, frozen", "top1", frozen))


def _motion(study: Study, levels: str) -> None:
    store, run = study.roles.prediction, None
    if store is not None:
        run = study.tuned("predict", store, study.pretrained(store, levels), levels)
    study.cells("table4", Cell(levels, "mpjpe_mm", run))


def table5(study: Study) -> None:
    for levels in ("none", "FC", "FCV"):
        store, run = study.roles.detection, None
        if store is not None:
            run = study.tuned("detect", store, study.pretrained(store, levels), levels)
        study.cells("table5", *(Cell(levels, column, run) for column in ("map_a", "map_v", "frame_acc")))


def figure3(study: Study) -> None:
    """Recognition from scratch and pre-trained, over the part of the labels."""
    store = study.roles.recognition
    for row, levels in (("scratch", "none"), ("pretrained", "FCV")):
        start = study.pretrained(store, levels) if store else None
        for fraction in FRACTIONS:
            study.cells("figure3", Cell(row, f"{float(fraction):.0%}", study.recognised(start, levels, fraction)))


EXPERIMENTS: dict[str, tuple[Callable[[Study], None], str, paper.Numbers]] = {
    "table1": (table1, "Table 1: recognition, all labels, streams fused", paper.TABLE1),
    "table2": (table2, "Table 2: recognition with few labels", paper.TABLE2),
    "table3": (table3, "Table 3: transfer to other data", paper.TABLE3),
    "table4": (table4, "Table 4: which levels are pre-trained", paper.TABLE4),
    "table5": (table5, "Table 5: detection", paper.TABLE5),
    "figure3": (figure3, "Figure 3: pre-trained and from scratch, over the part of the labels", {}),
}


def study_of(which: str, roles: Roles, scale: str, seeds: tuple[int, ...]) -> Study:
    """The runs and cells of one experiment, or of "all". DataError if nothing can be run."""
    study = Study(roles, SCALES[scale], seeds)
    for name in EXPERIMENTS if which == "all" else (which,):
        EXPERIMENTS[name][0](study)
    if not study.runs:
        raise DataError(f"{which} needs data that were not given. Experiments take: {roles.wanted()}")
    return study

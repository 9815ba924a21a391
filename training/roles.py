"""Which of the given stores plays which part in the paper's experiments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .data.records import UNKNOWN, DataError
from .data.store import Store

WANTED = {
    "recognition": "labelled recordings (NTU-60 in the paper)",
    "detection": "untrimmed recordings with segments and a known frame rate (PKU-MMD I)",
    "prediction": "recordings without segments, at a known rate of 10 frames a second or more (NTU-60)",
    "transfer": "a second labelled store of the same layout",
}
LEAST_FPS = 10  # a rate at which 400 ms are several frames


@dataclass(frozen=True)
class Roles:
    """Paths of stores; None where none of the given ones will do."""

    recognition: str | None
    detection: str | None
    prediction: str | None
    source: str | None
    """What transfer starts from."""
    layouts: dict[str, str]
    rates: dict[str, float] = field(default_factory=dict)
    """Frames a second, of the stores that know."""

    def name(self, store: str) -> str:
        return Path(store).name.removesuffix(".zarr")

    def fit(self, one: str, other: str) -> bool:
        return self.layouts[one] == self.layouts[other]

    def lines(self) -> list[str]:
        parts = zip(WANTED, (self.recognition, self.detection, self.prediction, self.source), strict=True)
        return [f"{part}: {store or f'not given; it takes {WANTED[part]}'}" for part, store in parts]

    def wanted(self) -> str:
        return "; ".join(WANTED.values())


def roles_of(paths: Sequence[str]) -> Roles:
    """Recognition and transfer: the first and the second labelled store without segments. Detection: the first with
    segments and a known frame rate. Prediction: the first without segments whose rate is known and high enough.

    DataError where two stores have one name, by which runs are told apart.
    """
    stores = [Store.open(path) for path in paths]
    labelled = [s.path for s in stores if not len(s.segments) and (s.sample_label != UNKNOWN).any()]
    streams = [s.path for s in stores if len(s.segments) and not math.isnan(s.fps)]
    rated = [s.path for s in stores if not len(s.segments) and not math.isnan(s.fps) and s.fps >= LEAST_FPS]
    first, second, *_ = [*labelled, None, None]
    layouts = {s.path: s.layout.name for s in stores}
    rates = {s.path: s.fps for s in stores if not math.isnan(s.fps)}
    roles = Roles(first, next(iter(streams), None), next(iter(rated), None), second, layouts, rates)
    names = [roles.name(s.path) for s in stores]
    if len(set(names)) < len(names):
        raise DataError(f"--data: two stores are named alike ({', '.join(names)}); rename one")
    return roles

"""Scores of samples as files that anybody can fuse and check, and their fusion over streams.

A `scores.npz` holds `names` [N] str, `logits` [N, K] float32, `labels` [N] int64 and `classes` [K] str.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .data.records import DataError
from .metrics.classes import ClassScores, classification, softmax
from .pictures import draw_confusion

FILE = "scores.npz"
SHOWN = 5  # classes of a prediction that are listed


class Scores(NamedTuple):
    names: np.ndarray  # [N] str
    logits: np.ndarray  # [N, K] float32
    labels: np.ndarray  # [N] int64
    classes: np.ndarray  # [K] str


def read_scores(path: Path) -> Scores:
    """The scores of a run folder, or of a file. DataError if there are none or they do not fit together."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{file}: there are no scores; training.recognize writes them at its end")
    scores = Scores(*read_arrays(file, Scores._fields))
    if scores.logits.shape != (len(scores.names), len(scores.classes)) or len(scores.labels) != len(scores.names):
        raise DataError(f"{file}: names, logits, labels and classes do not fit together")
    return scores


def read_arrays(file: Path, keys: Sequence[str]) -> list[np.ndarray]:
    """These arrays of an `.npz`. DataError if one is missing or the file is damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return [arrays[key] for key in keys]
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{file}: is not a file of such scores, or is damaged ({error})") from error


def fused(paths: Sequence[Path], weights: Sequence[float] | None, use_softmax: bool) -> Scores:
    """The weighted mean of several runs' logits, or of their probabilities (as logarithms), in the first run's order.

    DataError unless all have the same samples, labels and classes.
    """
    each = shares(weights, len(paths))
    first, *others = [read_scores(path) for path in paths]
    order = np.argsort(first.names, kind="stable")
    total = np.zeros(first.logits.shape)
    for path, scores, weight in zip(paths, [first, *others], each, strict=True):
        own = np.argsort(scores.names, kind="stable")
        _check_same(paths[0], first, order, path, scores, own)
        values = softmax(scores.logits) if use_softmax else scores.logits
        total[order] += weight * values[own]
    logits = np.log(np.maximum(total, np.finfo(np.float64).tiny)) if use_softmax else total
    return first._replace(logits=logits.astype(np.float32))


def shares(weights: Sequence[float] | None, count: int) -> list[float]:
    """The runs' parts of a fusion, which add up to 1. DataError for weights that cannot be."""
    if weights is None:
        return [1 / count] * count
    if len(weights) != count or min(weights) < 0 or not sum(weights) > 0:
        raise DataError(f"--weights: {count} numbers are needed, none negative and not all 0")
    return [weight / sum(weights) for weight in weights]


def _check_same(
    first_path: Path, first: Scores, order: np.ndarray, path: Path, scores: Scores, own: np.ndarray
) -> None:
    if not np.array_equal(first.classes, scores.classes):
        raise DataError(f"{path} has other classes than {first_path}, so their scores cannot be fused")
    if not np.array_equal(first.names[order], scores.names[own]):
        differ = np.setxor1d(first.names, scores.names)
        example = f", such as {differ[0]}" if len(differ) else ""
        raise DataError(
            f"{path} scores other samples than {first_path}: {len(differ)} are in one alone{example}; fuse runs of one "
            f"store and split"
        )
    if not np.array_equal(first.labels[order], scores.labels[own]):
        raise DataError(f"{path} has other labels than {first_path}, so their scores cannot be fused")


def write_results(folder: Path, scores: Scores) -> dict[str, Any]:
    """Scores, predictions, the per-class table and the confusion matrix as files; the figures as a dictionary.

    The matrix is drawn too where matplotlib is installed.
    """
    np.savez(folder / FILE, **scores._asdict())
    found = classification(scores.logits, scores.labels)
    classes = scores.classes.tolist()
    _write_predictions(folder / "predictions.csv", scores)
    count = found.confusion.sum(1)
    named = found.confusion.sum(0)
    right = found.confusion.diagonal()
    rows = [
        [name, n, _ratio(hit, n), _ratio(hit, called)]
        for name, n, hit, called in zip(classes, count.tolist(), right.tolist(), named.tolist(), strict=True)
    ]
    write_csv(folder / "per_class.csv", ["class", "samples", "recall", "precision"], rows)
    draw_confusion(folder / "confusion.png", found.confusion, classes)
    matrix = [[name, *row] for name, row in zip(classes, found.confusion.tolist(), strict=True)]
    write_csv(folder / "confusion.csv", ["true \\ named", *classes], matrix)
    return figures(found)


def figures(found: ClassScores) -> dict[str, Any]:
    return {k: round(v, 5) for k, v in found._asdict().items() if k != "confusion"}


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else ""


def _write_predictions(path: Path, scores: Scores) -> None:
    probability = softmax(scores.logits)
    best = np.argsort(-probability, 1, kind="stable")[:, :SHOWN]
    classes = scores.classes
    rows = []
    for name, label, order, values in zip(scores.names, scores.labels, best, probability, strict=True):
        rows.append([name, classes[label], *(x for c in order for x in (classes[c], f"{values[c]:.4f}"))])
    heads = [x for n in range(1, best.shape[1] + 1) for x in (f"named_{n}", f"probability_{n}")]
    write_csv(path, ["sample", "true", *heads], rows)


def write_csv(path: Path, heads: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([heads, *rows])

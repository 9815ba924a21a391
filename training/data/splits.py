"""Which samples train and which test, where the data set does not say: a rule of the user's, or a hash of the names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from .records import UNKNOWN, DataError

KEYS = ("labels", "subjects", "views", "cameras", "setups", "names")


def split_from_rule(
    rule: str, names: Sequence[str], columns: Mapping[str, Sequence[int] | Sequence[str] | np.ndarray]
) -> tuple[str, list[str]]:
    """The split's name and the names of its training samples, for a rule such as `cross-view=views:1,2`.

    `NAME=KEY:VALUES`: a sample trains if its value in the column KEY is one of VALUES, and tests otherwise.
    `columns` maps each KEY that the data have to one value per sample of `names`; `names` is always there.
    DataError as `selected` has it, and for a rule that leaves no test sample.
    """
    split, training = selected(rule, names, columns)
    if training.all():
        raise DataError(f"split {rule!r}: all {len(names)} samples are for training and none is left to test")
    return split, [name for name, trains in zip(names, training.tolist(), strict=True) if trains]


def selected(
    rule: str, names: Sequence[str], columns: Mapping[str, Sequence[int] | Sequence[str] | np.ndarray]
) -> tuple[str, np.ndarray]:
    """The rule's name, and for each of the samples `names` whether its value is one of VALUES, `[M]` bool.

    DataError for bad syntax, an unknown key, and a value that no sample has.
    """
    split, key, values = parse_rule(rule)
    if key != "names" and key not in columns:
        raise DataError(f"split {rule!r}: the data have no {key}; they have {', '.join(['names', *columns])}")
    column = np.asarray(names if key == "names" else columns[key])
    if len(column) != len(names):
        raise ValueError(f"column {key!r} has {len(column)} values for {len(names)} samples")
    for value in values:
        if not (column == value).any():
            present = ", ".join(str(v) for v in np.unique(column)[:10])
            raise DataError(f"split {rule!r}: no sample has {value} among its {key}; there are, for example, {present}")
    return split, np.isin(column, values)


def rule_columns(
    labels: np.ndarray, subjects: np.ndarray, cameras: np.ndarray, setups: np.ndarray
) -> dict[str, np.ndarray]:
    """What rules may select by: those of these columns `[M]` of which something is known. A view is a camera."""
    columns = {"labels": labels, "subjects": subjects, "views": cameras, "cameras": cameras, "setups": setups}
    return {key: values for key, values in columns.items() if (values != UNKNOWN).any()}


def parse_rule(rule: str) -> tuple[str, str, list[int] | list[str]]:
    """The name, key and values of `NAME=KEY:VALUES`; DataError for bad syntax or an unknown key."""
    split, _, condition = rule.partition("=")
    key, _, listed = condition.partition(":")
    values = [value.strip() for value in listed.split(",")]
    if not split or not all(values):
        raise DataError(f"split {rule!r} is not NAME=KEY:VALUES, for example cross-view=views:1,2")
    if key not in KEYS:
        raise DataError(f"split {rule!r}: {key!r} is not one of {', '.join(KEYS)}")
    if key == "names":
        return split, key, values
    try:
        return split, key, [int(value) for value in values]
    except ValueError:
        raise DataError(f"split {rule!r}: the values of {key} must be integers, separated by commas") from None


def hashed_split(names: Sequence[str]) -> list[str]:
    """The names of the training samples: all but every tenth, and at least one, in the order of the names' SHA-256.

    The result depends on the set of names alone, neither on their order nor on the run. It keeps the order of `names`.
    A single sample is for training.
    """
    if len(names) < 2:
        return list(names)
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    held_out = set(ordered[::10])
    return [name for name in names if name not in held_out]

"""Splits by a rule and by a hash of the names."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.records import DataError
from training.data.splits import hashed_split, split_from_rule

NAMES = ["a", "b", "c", "d", "e"]
COLUMNS = {"views": np.array([1, 2, 3, 1, 2]), "subjects": np.array([7, 7, 8, -1, 9])}


def test_the_values_of_a_rule_are_the_training_values():
    assert split_from_rule("cross-view=views:1,2", NAMES, COLUMNS) == ("cross-view", ["a", "b", "d", "e"])
    assert split_from_rule("one=subjects: 7 , 9", NAMES, COLUMNS) == ("one", ["a", "b", "e"])
    assert split_from_rule("x=names:e,a", NAMES, COLUMNS) == ("x", ["a", "e"])


def test_names_may_hold_colons_and_equals_signs():
    assert split_from_rule("x=names:k=1:2", ["k=1:2", "other"], {}) == ("x", ["k=1:2"])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("cross-view", "is not NAME=KEY:VALUES"),
        ("=views:1", "is not NAME=KEY:VALUES"),
        ("x=views", "is not NAME=KEY:VALUES"),
        ("x=views:", "is not NAME=KEY:VALUES"),
        ("x=views:1,,2", "is not NAME=KEY:VALUES"),
        ("x=view:1", "'view' is not one of labels, subjects, views"),
        ("x=views:one", "the values of views must be integers"),
        ("x=views:1,4", "no sample has 4 among its views; there are, for example, 1, 2, 3"),
        ("x=names:nobody", "no sample has nobody among its names"),
        ("x=setups:1", "the data have no setups; they have names, views, subjects"),
        ("x=views:1,2,3", "all 5 samples are for training"),
    ],
)
def test_a_bad_rule_is_refused_with_its_fault(rule: str, message: str):
    with pytest.raises(DataError, match=message) as raised:
        split_from_rule(rule, NAMES, COLUMNS)
    assert repr(rule) in str(raised.value)


def test_a_column_of_another_length_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="4 values for 5 samples"):
        split_from_rule("x=views:1", NAMES, {"views": np.array([1, 2, 1, 2])})


@given(st.lists(st.text(), min_size=2, max_size=200, unique=True), st.randoms(use_true_random=False))
def test_a_tenth_is_held_out_whatever_the_order(names: list[str], shuffler: random.Random):
    training = hashed_split(names)
    assert len(training) == len(names) - -(-len(names) // 10)
    assert training == [name for name in names if name in set(training)]
    shuffled = names.copy()
    shuffler.shuffle(shuffled)
    assert set(hashed_split(shuffled)) == set(training)


def test_the_hash_is_the_same_in_every_run():
    names = [f"sequence{number:06d}" for number in range(25)]
    assert set(names) - set(hashed_split(names)) == {"sequence000007", "sequence000012", "sequence000016"}


def test_a_single_sample_is_for_training():
    assert hashed_split(["only"]) == ["only"]
    assert hashed_split([]) == []

"""Lists of labelled samples: their sizes, what they depend on, and that a store keeps them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.check import check_store
from training.data.labelled import labelled_lists
from training.data.records import DataError
from training.data.store import Store
from training.data.synthetic import DemoReader
from training.data.writer import write_store


def lists(names: list[str], labels: np.ndarray, seed: int = 0, training: np.ndarray | None = None) -> dict:
    split = np.ones(len(names), bool) if training is None else training
    return {found.name: found for found in labelled_lists({"s": split}, names, labels, seed)}


@pytest.mark.parametrize(("samples", "counts"), [(40_091, (420, 2005, 4009)), (37_646, (420, 1882, 3765))])
def test_the_authors_counts_of_ntu60(samples: int, counts: tuple[int, int, int]) -> None:
    names = [f"n{i}" for i in range(samples)]
    found = lists(names, np.arange(samples) % 60)
    assert found["s-1-per-class"].mask.sum() == counts[0]
    assert np.bincount((np.arange(samples) % 60)[found["s-1-per-class"].mask]).tolist() == [7] * 60
    assert (found["s-5-uniform"].mask.sum(), found["s-10-uniform"].mask.sum()) == counts[1:]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 2**31), st.randoms())
def test_lists_follow_names_and_seed_alone(samples: int, classes: int, seed: int, random) -> None:
    names, labels = [f"n{i}" for i in range(samples)], np.arange(samples) % classes
    found = lists(names, labels, seed)
    order = list(range(samples))
    random.shuffle(order)
    again = lists([names[i] for i in order], labels[order], seed)
    for name, one in found.items():
        kept = {names[i] for i in np.flatnonzero(one.mask)}
        assert kept == {names[order[i]] for i in np.flatnonzero(again[name].mask)}
        assert one.about["sha256"] == hashlib.sha256("\n".join(sorted(kept)).encode()).hexdigest()
        assert one.about == again[name].about and one.about["samples"] == len(kept) >= 1
    assert set(np.flatnonzero(found["s-1-uniform"].mask)) <= set(np.flatnonzero(found["s-10-uniform"].mask))


def test_only_training_samples_with_a_label() -> None:
    labels = np.array([0, 1, -1, 0, 1, -1] * 20)
    training = np.arange(120) % 4 != 0
    for found in lists([f"n{i}" for i in range(120)], labels, training=training).values():
        assert training[found.mask].all() and (labels[found.mask] >= 0).all()
    assert not lists(["a", "b"], np.array([-1, -1]))


def test_a_store_keeps_them(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_store(tmp_path / f"{seed}.zarr", DemoReader(count=60), label_seed=seed)
    store, other = (Store.open(tmp_path / f"{seed}.zarr") for seed in (0, 1))
    assert not check_store(tmp_path / "0.zarr")
    (first, *_) = store.split_names
    name = f"{first}-10-uniform"
    assert (
        store.labelled(name).sum() == store.labelled_lists[name]["samples"] and store.labelled_lists[name]["seed"] == 0
    )
    assert (store.labelled(name) & ~store.split(first)).sum() == 0
    assert other.labelled_lists[name]["sha256"] != store.labelled_lists[name]["sha256"]
    with pytest.raises(DataError, match="has no list 'xsub-2'"):
        store.labelled("xsub-2")

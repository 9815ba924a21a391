"""Linear classifier and nearest neighbours on the features of a frozen encoder."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.frozen import linear_probe, nearest_neighbours


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_votes_against_a_loop(samples: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, queries = rng.normal(size=(samples, 3)), rng.normal(size=(4, 3))
    labels = rng.integers(0, 3, samples)
    scores = nearest_neighbours(features, labels, queries, 3, k)
    for query, row in zip(queries, scores, strict=True):
        cosine = [query @ f / np.linalg.norm(query) / np.linalg.norm(f) for f in features]
        nearest = sorted(range(samples), key=lambda i: -cosine[i])[:k]
        votes = np.bincount(labels[nearest], minlength=3)
        assert np.floor(row + 1e-9).tolist() == votes.tolist()
        tied = [c for c in range(3) if votes[c] == votes.max()]
        best = max(tied, key=lambda c: max((cosine[i] for i in range(samples) if labels[i] == c), default=-1))
        assert row.argmax() == best


def test_the_probe_separates_what_a_line_separates() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    features = torch.eye(3)[labels] @ torch.randn(3, 8, generator=generator) + 0.1 * torch.randn(
        60, 8, generator=generator
    )
    probe = linear_probe(features, labels, 3, seed=1)
    assert torch.equal(probe(features).argmax(1), labels)
    again = linear_probe(features, labels, 3, seed=1)
    assert torch.equal(again.weight, probe.weight)

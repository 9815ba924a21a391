"""The order of an epoch's pieces. A sampler maps (generator, lengths `[P]`, sequences `[P]`) to indices `[P]`.

All randomness comes from the generator, which the loader seeds from (seed, epoch): a run that goes on from (epoch,
batch) meets the same batches, and nothing else has to be saved.

Shape legend: P pieces, N sequences.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Sampler = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
POOL = 32  # batches that are sorted together


def shuffled(rng: np.random.Generator, lengths: np.ndarray, sequences: np.ndarray) -> np.ndarray:
    return rng.permutation(len(lengths))


def bucketed(batch_size: int) -> Sampler:
    """Batches of pieces of similar length, in random order: POOL random batches at a time are sorted by length."""

    def order(rng: np.random.Generator, lengths: np.ndarray, sequences: np.ndarray) -> np.ndarray:
        drawn = rng.permutation(len(lengths))
        pool = np.arange(len(drawn)) // (POOL * batch_size)
        drawn = drawn[np.lexsort((lengths[drawn], pool))]
        batch = np.arange(len(drawn)) // batch_size
        turn = rng.permutation(batch[-1] + 1) if len(drawn) else batch
        if len(drawn) % batch_size:  # the one that is not full stays last
            turn = np.concatenate([turn[turn < batch[-1]], [batch[-1]]])
        return drawn[np.argsort(np.argsort(turn)[batch], kind="stable")]

    return order


def balanced(labels: np.ndarray) -> Sampler:
    """Each label equally often, to one piece; `labels` `[N]`. Pieces of rare labels come again, each equally often."""

    def order(rng: np.random.Generator, lengths: np.ndarray, sequences: np.ndarray) -> np.ndarray:
        own = labels[sequences]
        known = np.unique(own)
        each = -(-len(own) // max(1, len(known)))
        turns = [np.concatenate(_rounds(rng, np.flatnonzero(own == label), each)) for label in known]
        # Row r holds the r-th draw of every label; only the last row may be cut.
        return np.concatenate([rng.permutation(row) for row in np.stack(turns, 1)])[: len(own)] if turns else own

    return order


def _rounds(rng: np.random.Generator, members: np.ndarray, count: int) -> list[np.ndarray]:
    """`count` of the members in permutations one after another."""
    rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
    rounds[-1] = rounds[-1][: count - len(members) * (len(rounds) - 1)]
    return rounds

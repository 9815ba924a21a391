"""Protocols that leave the encoder as it is: features once, then a linear classifier or nearest neighbours.

Shape legend: N samples, D width of the video embedding, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

LINEAR_LR, LINEAR_EPOCHS, LINEAR_BATCH = 0.01, 70, 128  # the authors' linear mode; no weight decay


def linear_probe(features: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Linear:
    """A linear classifier trained on features `[N, D]` and labels `[N]` with Adam, by the authors' settings."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    probe = nn.Linear(features.shape[1], classes).to(features.device)
    optimizer = torch.optim.Adam(probe.parameters(), lr=LINEAR_LR)
    for _ in range(LINEAR_EPOCHS):
        order = torch.randperm(len(features), generator=generator).to(features.device)
        for part in order.split(LINEAR_BATCH):
            loss = fn.cross_entropy(probe(features[part]), labels[part])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return probe


def nearest_neighbours(
    features: np.ndarray, labels: np.ndarray, queries: np.ndarray, classes: int, k: int
) -> np.ndarray:
    """Scores `[Q, K]` of queries `[Q, D]`: the votes of the `k` most similar features, by cosine.

    Classes of as many votes are ordered by their most similar sample, which adds less than half a vote.
    """
    similarity = _unit(queries) @ _unit(features).T
    member = np.eye(classes)[labels]  # [N, K]
    nearest = np.argsort(-similarity, 1, kind="stable")[:, :k]
    votes = member[nearest].sum(1)
    best = np.stack([similarity[:, labels == c].max(1, initial=-1.0) for c in range(classes)], 1)
    return votes + 0.2 * (best + 1)


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

"""The CPU's dropout: the right share of zeros, the right scale, the same mask forward and backward."""

from __future__ import annotations

import pytest
import torch

from hitrs_fast.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("shape", [(1001, 997), (3, 5, 7)])
def test_share_and_scale(p: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    y = Dropout(p)(x)
    y.sum().backward()
    assert torch.equal(y, x.grad)
    values = y.unique()
    assert len(values) == 2 and values[0] == 0 and values[1].item() == pytest.approx(1 / (1 - p), rel=1e-4)
    if y.numel() > 10_000:
        assert (y == 0).double().mean().item() == pytest.approx(p, abs=2e-3)
        rows = (y == 0).double().mean(1)
        assert (rows - p).abs().max() < 6 * (p * (1 - p) / shape[1]) ** 0.5


def test_masks_are_independent_and_seeded() -> None:
    drop, x = Dropout(0.5), torch.ones(4000)
    torch.manual_seed(1)
    first, second = drop(x), drop(x)
    torch.manual_seed(1)
    assert torch.equal(first, drop(x))
    assert 0.45 < (first == second).float().mean() < 0.55
    shifted = (first[:-1] == first[1:]).float().mean()
    assert 0.45 < shifted < 0.55


def test_nothing_happens_in_evaluation() -> None:
    x = torch.ones(5)
    assert Dropout(0.5).eval()(x) is x and Dropout(0.0)(x) is x

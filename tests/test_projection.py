"""The packed projection: the same numbers and gradients however it is computed."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from hitrs_fast.projection import project_qkv


@pytest.mark.parametrize("leading", [(5,), (2, 3), (2, 3, 4)])
def test_gradients_by_finite_differences(leading: tuple[int, ...]) -> None:
    x = torch.randn(*leading, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3 * 2 * 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: project_qkv(x, w, heads=2, packed=False), (x, weight))


def test_equals_the_packed_product() -> None:
    x, weight = torch.randn(7, 11, 6, dtype=torch.float64), torch.randn(3 * 8, 6, dtype=torch.float64)
    packed = project_qkv(x, weight, heads=4, packed=True)
    torch.testing.assert_close(packed, linear(x, weight).view(7, 11, 3, 4, 2))
    for ours, expected in zip(project_qkv(x, weight, heads=4, packed=False), packed.unbind(-3), strict=True):
        torch.testing.assert_close(ours, expected)


def test_only_one_output_used_and_frozen_inputs() -> None:
    x, weight = torch.randn(5, 3), torch.randn(12, 3, requires_grad=True)
    project_qkv(x, weight, heads=2, packed=False)[1].sum().backward()
    assert weight.grad is not None
    assert weight.grad[:4].eq(0).all() and weight.grad[8:].eq(0).all() and weight.grad[4:8].ne(0).any()
    frozen = torch.randn(5, 3, requires_grad=True)
    sum(t.sum() for t in project_qkv(frozen, weight.detach(), heads=2, packed=False)).backward()
    assert frozen.grad is not None


def test_under_autocast_the_gradients_follow() -> None:
    x, weight = torch.randn(5, 3, requires_grad=True), torch.randn(12, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        q, k, v = project_qkv(x, weight, heads=2, packed=False)
    assert q.dtype == torch.bfloat16
    (q.float().sum() + k.float().sum() + v.float().sum()).backward()
    torch.testing.assert_close(x.grad, weight.detach().sum(0).expand(5, 3), rtol=0.02, atol=0.1)

"""The feed-forward kernels as they are compiled: budgets, and the compiled code itself against float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from budgets import NVIDIA, check_amd, check_budgets, check_single
from machine import on_ptx_machine

from bench import paper_work
from bench.offline import launches
from bench.paper_work import WIDTHS
from hitrs_fast.kernels import mlp, reference


@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize("level", ["frame", "clip"])
def test_budgets(level: str, target: str) -> None:
    for launch in launches(partial(paper_work.mlp, level, torch.bfloat16)):
        check_budgets(launch, target, tile_rows=launch.arguments["BLOCK"])


@pytest.mark.slow
@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("level", WIDTHS)
def test_budgets_of_all_configurations(level: str, dtype: torch.dtype, target: str) -> None:
    for p in (0.0, 0.2):
        for launch in launches(partial(paper_work.mlp, level, dtype, p)):
            check_budgets(launch, target, tile_rows=launch.arguments["BLOCK"], all_configs=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", NVIDIA)
def test_budgets_of_the_projection(target: str) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        forward, backward = launches(partial(paper_work.projection, dtype))
        check_budgets(forward, target, blocks=2, all_configs=True)
        check_budgets(backward, target, tile_rows=None)


@pytest.mark.slow
@pytest.mark.parametrize("target", NVIDIA)
def test_float32_stays_ieee(target: str) -> None:
    for function in (partial(paper_work.mlp, "clip", torch.float32), partial(paper_work.projection, torch.float32)):
        for launch in launches(function):
            check_single(launch, target)


@pytest.mark.slow
def test_compiles_for_amd() -> None:
    check_amd(partial(paper_work.mlp, "clip", torch.bfloat16))
    check_amd(partial(paper_work.projection, torch.bfloat16))


@pytest.mark.parametrize("p", [0.0, 0.2])
def test_compiled_code_is_right(p: float) -> None:
    """Two tiles, the second not full; the mask is read back from compiled code too."""
    generator = torch.Generator().manual_seed(0)
    width, hidden, dtype = 40, 32, torch.bfloat16

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    w_in, w_out = draw(hidden, width, dtype=dtype) / 6, draw(width, hidden, dtype=dtype) / 6
    inputs = [draw(70, width, dtype=dtype), draw(width) / 3 + 1, draw(width), w_in, draw(hidden), w_out, draw(width)]
    grad = draw(70, width, dtype=dtype)
    seed = torch.tensor([12345]) if p else None
    with on_ptx_machine():
        out = torch.ops.hitrs_fast.gelu_mlp(*inputs, p, seed, 1e-5)
        grads = torch.ops.hitrs_fast.gelu_mlp_backward(grad, *inputs, p, seed, 1e-5)
        keep = mlp.dropout_mask(torch.tensor([12345]), 70, width, p)
    assert abs(keep.float().mean().item() - (1 - p)) < 0.03
    exact = [t.double().requires_grad_() for t in inputs]
    expected = reference.gelu_mlp(*exact, p=p, keep=keep)
    truths = torch.autograd.grad(expected, exact, grad.double())
    for name, ours, truth in zip(
        ("out", "h", "gamma", "beta", "w1", "b1", "w2", "b2"), (out, *grads), (expected, *truths), strict=True
    ):
        error = ((ours.double() - truth).norm() / truth.norm()).item()
        assert error < 1.5 * torch.finfo(dtype).eps, f"{name}: {error:.2e}"

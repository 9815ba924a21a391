"""One-query attention and the joints' embedding as they are compiled: budgets, and the code itself against float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from budgets import NVIDIA, check_amd, check_budgets, check_single
from kernel_cases import gradients
from machine import on_ptx_machine

from bench.offline import launches
from bench.paper_work import embedding, pool
from hitrs_fast.kernels import reference

LEVELS = ("clip", "video")


@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize("level", LEVELS)
def test_budgets(level: str, target: str) -> None:
    forward, backward = launches(partial(pool, level, torch.bfloat16))
    check_budgets(forward, target, blocks=2, tile_rows=16)
    check_budgets(backward, target, tile_rows=16)


@pytest.mark.parametrize("target", NVIDIA)
def test_budgets_of_the_embedding(target: str) -> None:
    for launch in launches(embedding) + launches(partial(embedding, 2)):
        check_budgets(launch, target, blocks=2, tile_rows=None, all_configs=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("level", LEVELS)
def test_budgets_of_all_configurations(level: str, dtype: torch.dtype, target: str) -> None:
    for launch in launches(partial(pool, level, dtype)):
        check_budgets(launch, target, tile_rows=16, all_configs=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", NVIDIA)
def test_float32_stays_ieee(target: str) -> None:
    for launch in launches(partial(pool, "clip", torch.float32)):
        check_single(launch, target)


@pytest.mark.slow
def test_compiles_for_amd() -> None:
    check_amd(partial(pool, "clip", torch.bfloat16))
    check_amd(embedding)


def test_compiled_pooling_is_right() -> None:
    """More tokens than a tile, a width that is no power of two, three heads of sixteen, some tokens hidden."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(2, 3, 200, generator=generator).bfloat16() / 8
    tokens = torch.randn(2, 45, 200, generator=generator).bfloat16()
    visible = torch.rand(2, 45, generator=generator) > 0.3

    def definition(u: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        n = torch.nn.functional.layer_norm(tokens, (200,))
        scores = (u @ n.transpose(1, 2)).masked_fill(~visible[:, None], float("-inf"))
        return scores.softmax(-1) @ n

    exact = gradients(definition, {"u": u.double(), "tokens": tokens.double()})
    with on_ptx_machine():
        ours = gradients(
            lambda u, tokens: torch.ops.hitrs_fast.pool(u, tokens, visible, 1e-5)[0], {"u": u, "tokens": tokens}
        )
    for name, truth in exact.items():
        error = ((ours[name].double() - truth).norm() / truth.norm()).item()
        assert error < 2 * torch.finfo(torch.bfloat16).eps, f"{name}: {error:.2e}"


def test_compiled_embedding_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"coordinates": (15, 5, 3), "weight": (24, 3), "bias": (24,), "position": (5, 24), "norm_weight": (24,)}
    inputs = {k: torch.randn(shape, generator=generator) for k, shape in shapes.items()}
    inputs["norm_bias"] = inputs["bias"].clone()
    exact = gradients(reference.joint_embedding, {k: t.double() for k, t in inputs.items()})
    with on_ptx_machine():
        ours = gradients(lambda **x: torch.ops.hitrs_fast.joint_embedding(*x.values(), 1e-5, torch.float32), inputs)
    for name, truth in exact.items():
        error = ((ours[name].double() - truth).norm() / truth.norm()).item()
        assert error < 1e-5, f"{name}: {error:.2e}"

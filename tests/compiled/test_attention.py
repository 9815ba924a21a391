"""Attention as it is compiled: budgets, and the compiled code itself against float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from budgets import NVIDIA, check_amd, check_budgets, check_single
from kernel_cases import gradients
from machine import on_ptx_machine

from bench.offline import launches
from bench.paper_work import attention
from hitrs_fast.kernels import reference

KINDS = ("clips", "frames")


@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize("kind", KINDS)
def test_budgets(kind: str, target: str) -> None:
    for launch in launches(partial(attention, kind, torch.bfloat16)):
        check_budgets(launch, target, blocks=2)


@pytest.mark.slow
@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_budgets_of_all_configurations(kind: str, dtype: torch.dtype, target: str) -> None:
    for launch in launches(partial(attention, kind, dtype)):
        check_budgets(launch, target, all_configs=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", NVIDIA)
@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_ieee(kind: str, target: str) -> None:
    for launch in launches(partial(attention, kind, torch.float32)):
        check_single(launch, target)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_compiles_for_amd(kind: str) -> None:
    check_amd(partial(attention, kind, torch.bfloat16))


@pytest.mark.parametrize("same_frame", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float32, marks=pytest.mark.slow)])
def test_compiled_code_is_right(same_frame: bool, dtype: torch.dtype) -> None:
    """Two tiles of which the second is not full; the packed layout of the encoder."""
    shape = (6, 17, 3, 2, 32) if same_frame else (2, 71, 3, 1, 32)
    joints = 17 if same_frame else 10
    qkv = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)

    def definition(qkv: torch.Tensor) -> torch.Tensor:
        parts = qkv.unbind(2)
        return reference.frame_attention(*parts) if same_frame else reference.clip_attention(*parts, joints, False)

    def kernel(qkv: torch.Tensor) -> torch.Tensor:
        return torch.ops.hitrs_fast.attention_packed(qkv, joints, same_frame, False)[0]

    exact = gradients(definition, {"qkv": qkv.double()})
    with on_ptx_machine():
        ours = gradients(kernel, {"qkv": qkv})
    for name, truth in exact.items():
        error = (ours[name].double() - truth).norm() / truth.norm()
        assert error < 4 * torch.finfo(dtype).eps, f"{name}: {error:.2e}"

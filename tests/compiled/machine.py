"""Carries launches out on a CPU: each instruction of the code compiled for sm_80, with race and bounds checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from kernel_cases import tool
from torch import Tensor

from bench.offline import Launch, build, intercepted, runtime_arguments


@contextmanager
def on_ptx_machine() -> Iterator[None]:
    """Kernels launched within the block run on the machine beside the checkout; skips where there is none."""
    ptx_machine = tool("ptx_machine")
    if ptx_machine is None:
        pytest.skip("the machine that runs compiled code on a CPU is not here")

    def carry_out(launch: Launch) -> None:
        config = launch.configs[0]
        built = build(launch, "sm_80", config)
        passed = list(runtime_arguments(launch, config).values())
        memories = [_memory(value) if isinstance(value, Tensor) else value for value in passed]
        arguments = [m.numpy() if isinstance(m, Tensor) else m for m in memories]
        ptx_machine.run(
            built.asm["ptx"], launch.programs(config), arguments, built.warps, built.shared, strict_async=True
        )
        for value, memory in zip(passed, memories, strict=True):
            if isinstance(value, Tensor):  # its own elements alone: other arguments may lie between them
                _bits(value).copy_(torch.as_strided(memory, value.shape, value.stride()))

    with intercepted(carry_out):
        yield


def _bits(tensor: Tensor) -> Tensor:
    """The tensor for numpy; written to behind autograd's back, as a kernel does."""
    return tensor.data.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor.data


def _memory(tensor: Tensor) -> Tensor:
    """A copy of all memory from a tensor's first element to its last."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return torch.as_strided(_bits(tensor), (extent,), (1,)).clone()

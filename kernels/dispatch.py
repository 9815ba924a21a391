"""Which implementation an operation runs: Triton kernels or plain torch."""

from __future__ import annotations

import contextlib
import importlib.util
import os

import torch
from torch import Tensor

IMPLS = ("auto", "triton", "reference")
"""What `impl` may be, for every operation: see `uses_triton`."""
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Read once: what torch.compile traces must not ask the system.
INSTALLED = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def launching_on(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Triton launches on the current device, whatever device its arguments are on: make it theirs."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def padded(size: int, least: int = 16) -> int:
    """A tile's side: Triton's tiles are powers of two, and the matrix units take 16."""
    return max(least, 1 << (size - 1).bit_length())


def misfit(**tensors: Tensor) -> ValueError:
    """The error for shapes that do not fit together; kernels would read past their ends."""
    shapes = [list(tensor.shape) for tensor in tensors.values()]
    return ValueError(f"{', '.join(tensors)} have shapes {shapes}, which do not fit together")


def operand_dtype(device: torch.device, weight: Tensor) -> torch.dtype:
    """The dtype that matrix products with a weight `[...]` run in: autocast's where it is on, else the weight's."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return weight.dtype


def uses_triton(impl: str, x: Tensor) -> bool:
    """Whether `impl` means the Triton kernels for a tensor `[...]` like `x`.

    "auto" is Triton on CUDA and torch elsewhere; float64, which the kernels do not compute in, is torch's too.
    "triton" is an error where it cannot be had, never something else. On a CPU that is everywhere but under Triton's
    interpreter (`TRITON_INTERPRET=1`), which is for tests.

    Raises ValueError for an unknown `impl`, RuntimeError where Triton cannot run, TypeError for another dtype.
    """
    if impl not in IMPLS:
        raise ValueError(f"impl is {impl!r}, not one of {', '.join(IMPLS)}")
    if impl == "reference" or (impl == "auto" and (not x.is_cuda or x.dtype == torch.float64)):
        return False
    if not INSTALLED:
        raise RuntimeError('Triton is not installed: pip install triton, or choose impl="reference"')
    if not (x.is_cuda or INTERPRETED):
        raise RuntimeError(f'Triton kernels need CUDA tensors, and these are on {x.device}: choose impl="auto"')
    if x.dtype not in KERNEL_DTYPES:
        raise TypeError(f'Triton kernels take float32, bfloat16 and float16, not {x.dtype}: choose impl="reference"')
    return True

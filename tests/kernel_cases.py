"""What the tests of all kernels share: devices, sizes in pairs, poisoned outputs, the error budget."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

TOOLS = Path(__file__).parents[2] / "shared" / "tools"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))


@cache
def tool(name: str) -> ModuleType | None:
    """A module of the instruments beside the checkout, which may import its neighbours; None where there is none."""
    if not (TOOLS / f"{name}.py").exists():
        return None
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(TOOLS))


def ready(device: str, dtype: torch.dtype) -> None:
    """Skips, with the reason, what this machine cannot run rightly."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if device == "cpu" and torch.cuda.is_available():
        pytest.skip("kernels are compiled here, not interpreted")
    if device == "cpu" and dtype == torch.bfloat16 and not (TOOLS / "interp_bf16.py").exists():
        pytest.skip("Triton's interpreter is wrong in bfloat16, and its correction is not here")


def covering(seed: int = 0, **values: Sequence[Any]) -> list[dict[str, Any]]:
    """Cases such that each pair of values of two parameters meets in one of them, chosen greedily."""
    names = list(values)
    grid = list(itertools.product(*values.values()))
    order = torch.randperm(len(grid), generator=torch.Generator().manual_seed(seed)).tolist()

    def pairs(case: tuple[Any, ...]) -> set[Any]:
        return set(itertools.combinations(enumerate(map(str, case)), 2))

    missing = set().union(*map(pairs, grid))
    chosen = []
    while missing:
        best = max(order, key=lambda i: len(pairs(grid[i]) & missing))
        missing -= pairs(grid[best])
        chosen.append(dict(zip(names, grid[best], strict=True)))
    return chosen


def full(**values: Sequence[Any]) -> list[dict[str, Any]]:
    return [dict(zip(values, case, strict=True)) for case in itertools.product(*values.values())]


def name_of(case: dict[str, Any]) -> str:
    return "-".join(f"{k}{str(v).removeprefix('torch.')}" for k, v in case.items())


@contextmanager
def hostile() -> Iterator[None]:
    """New tensors hold NaN until written; where the guard is at hand, no access may leave the arguments."""
    guard = tool("interp_bf16") if not torch.cuda.is_available() else None
    torch.use_deterministic_algorithms(True)
    if guard is not None:
        guard.enable()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        if guard is not None:
            guard.disable()


def gradients(function: Callable[..., Tensor], inputs: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The result of a function and the gradients of its floating-point inputs, for one random output gradient."""
    leaves = {k: t.detach().requires_grad_(t.is_floating_point()) for k, t in inputs.items()}
    out = function(**leaves)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)
    wanted = {k: t for k, t in leaves.items() if t.requires_grad}
    grads = torch.autograd.grad(out, list(wanted.values()), weight)
    return {"out": out.detach()} | dict(zip(wanted, grads, strict=True))


def check(kernel: Callable[..., Tensor], definition: Callable[..., Tensor], inputs: dict[str, Tensor]) -> None:
    """The kernel's result and gradients err at most twice as much as plain torch's in the same dtypes.

    The error is the norm of the difference to the definition in float64, from the same inputs.
    """
    exact = gradients(definition, {k: t.double() if t.is_floating_point() else t for k, t in inputs.items()})
    eager = gradients(definition, inputs)
    with hostile():
        ours = gradients(kernel, inputs)
    for name, truth in exact.items():
        assert ours[name].dtype == eager[name].dtype and ours[name].shape == truth.shape, name
        error, budget = ((x[name].double() - truth).norm().item() for x in (ours, eager))
        slack = torch.finfo(eager[name].dtype).eps * truth.norm().item() / 4  # as if torch were never exact by luck
        assert error <= 2 * budget + slack, f"{name}: {error:.2e} from float64, torch {budget:.2e}"

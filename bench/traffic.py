"""Bytes that pass through a GPU's memory, counted without one.

Every operation of plain torch reads its inputs from memory and writes its results back; a kernel of ours does the same
with its arguments, each once (what it reads twice comes from a cache).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .offline import launches


class Traffic(TorchDispatchMode):
    """`bytes`: read and written by all operations of the block but views."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        read = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        written = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        known = {t.untyped_storage()._cdata for t in read}
        if func._schema.is_mutable or any(t.untyped_storage()._cdata not in known for t in written):
            self.bytes += sum(t.numel() * t.element_size() for t in read + written)
        return out


def eager(function: Callable[..., Tensor], *shapes: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> int:
    """Bytes of forward and backward of a function of tensors of these shapes, as plain torch carries them out.

    Under autocast, as training runs it. Weights are counted once each way, so take many tokens.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cpu", torch.bfloat16):
        inputs = [torch.empty(shape, dtype=dtype, requires_grad=True) for shape in shapes]
        with Traffic() as traffic:
            out = function(*inputs)
            out.backward(torch.empty(out.shape, dtype=out.dtype))
    return traffic.bytes


def launched(work: Callable[[int], object], groups: int) -> dict[str, float]:
    """Bytes a group (a clip, a frame, a token) of each kernel that `work(groups)` launches; weights drop out."""
    few, many = launches(lambda: work(groups)), launches(lambda: work(2 * groups))
    return {a.name: (_bytes(b.arguments) - _bytes(a.arguments)) / groups for a, b in zip(few, many, strict=True)}


def _bytes(arguments: dict[str, Any]) -> int:
    return sum(t.numel() * t.element_size() for t in arguments.values() if isinstance(t, Tensor))

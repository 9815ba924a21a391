"""What a computation costs: time beside another's, floating-point operations, memory."""

from __future__ import annotations

import os
import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from training.runtime import keep_freed_memory, set_allocator


def interleaved(functions: Mapping[str, Callable[[], Any]], rounds: int = 5) -> dict[str, float]:
    """Median seconds of each function; they take turns, so that a machine's drift meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            _synchronize()
            begin = time.perf_counter()
            function()
            _synchronize()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def resident_bytes() -> int:
    """What the process holds in memory, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def as_the_system_allocates(function: Callable[[], Any]) -> Callable[[], Any]:
    """The function under glibc's own limits, as it runs in a program that does not call `keep_freed_memory`."""

    def call() -> None:
        set_allocator(mappings=65536, trim_threshold=128 << 10)
        try:
            function()
        finally:
            keep_freed_memory()

    return call


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# The CPU's attention kernel is not among those that torch's counter knows.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and attention, two for a multiply-add."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        function()
    return counter.get_total_flops()


def saved_bytes(function: Callable[[], Any], model: nn.Module) -> int:
    """Bytes that autograd keeps for the backward, each storage once, parameters left out."""
    kept: dict[int, Tensor] = {}
    own = {p.untyped_storage()._cdata for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        result = function()
        total = sum(t.untyped_storage().nbytes() for t in kept.values())
        del result
    return total


def costs(step: Callable[[], Any], forward: Callable[[], Any], model: nn.Module) -> dict[str, int]:
    """What one step costs whatever the machine: operations, bytes kept for the backward, most bytes alive at once."""
    with PeakMemory() as memory:
        step()
    return {"flops": flops(step), "saved_bytes": saved_bytes(forward, model), "peak_bytes": memory.peak}


class PeakMemory(TorchDispatchMode):
    """`peak`: the most bytes of tensors made within the block that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.alive -= size

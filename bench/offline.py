"""What a kernel becomes on a GPU, without one: launches are intercepted, compiled for a target, and read.

Triton compiles for any target anywhere; the registers, stack and instructions are read off the binary by the tools in
Triton's own package. Needs a process without `TRITON_INTERPRET`, which replaces the kernels by Python.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.autotuner import Autotuner

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
_TYPES = {
    torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64",
    torch.int64: "i64", torch.int32: "i32", torch.bool: "i1", torch.uint8: "u8",
}  # fmt: skip


class Launch(NamedTuple):
    """One call of a kernel, as `kernel[grid](...)` makes it."""

    kernel: Any  # triton.JITFunction
    configs: list[triton.Config]  # those for its dtype; the first is the default
    arguments: dict[str, Any]  # all but what the configurations set
    grid: Any  # a tuple, or what makes one of the arguments

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__

    def programs(self, config: triton.Config) -> tuple[int, ...]:
        return self.grid(self.arguments | config.kwargs) if callable(self.grid) else self.grid


class Gpu(NamedTuple):
    """Data-sheet figures."""

    name: str
    shared: int  # bytes of shared memory per multiprocessor; each block reserves 1 KiB of it
    block_shared: int  # most of it that one block may have
    peak16: float  # bf16 operations per second of the matrix units, dense
    bandwidth: float  # bytes per second


GPUS = {
    "sm_80": Gpu("A100", 164 << 10, 163 << 10, 312e12, 1.555e12),
    "sm_90": Gpu("H100", 228 << 10, 227 << 10, 989e12, 3.35e12),
}
_REGISTERS, _WARPS, _BLOCKS = 65536, 64, 32  # per multiprocessor, both GPUs


class Build(NamedTuple):
    """A compiled kernel. `stack` is local memory in bytes a thread: spills, as a rule."""

    asm: dict[str, Any]
    warps: int
    registers: int
    stack: int
    shared: int
    instructions: Counter[str]

    def blocks(self, gpu: Gpu) -> tuple[int, str]:
        """How many blocks fit a multiprocessor, and what limits them."""
        per_warp = max(256, -(-self.registers * 32 // 256) * 256)  # registers are given out by 256
        limits = {
            "registers": _REGISTERS // 4 // per_warp * 4 // self.warps,
            "shared memory": gpu.shared // (-(-(self.shared + 1024) // 128) * 128),
            "warps": _WARPS // self.warps,
            "blocks": _BLOCKS,
        }
        limiter = min(limits, key=lambda name: limits[name])
        return limits[limiter], limiter


@contextmanager
def intercepted(handle: Callable[[Launch], None]) -> Iterator[None]:
    """Within the block, tuned kernels are not launched: `handle` gets each launch instead."""

    def run(tuner: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> None:
        tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
        handle(Launch(tuner.fn, tuner.prune_configs(named), tuner.nargs | named, grid))

    with mock.patch.object(Autotuner, "run", run):
        yield


def launches(function: Callable[[], object]) -> list[Launch]:
    """The launches that `function` makes; none is carried out, so its results are not initialised."""
    seen: list[Launch] = []
    with intercepted(seen.append):
        function()
    return seen


def runtime_arguments(launch: Launch, config: triton.Config) -> dict[str, Any]:
    """What the compiled kernel takes: no constants, and no integers equal to 1, which Triton makes constants."""
    constants = {p.name for p in launch.kernel.params if p.is_constexpr}
    given = launch.arguments | config.kwargs
    return {
        name: given[name]
        for name in launch.kernel.arg_names
        if name not in constants and given[name] is not None and not (type(given[name]) is int and given[name] == 1)
    }


def build(launch: Launch, target: str, config: triton.Config | None = None) -> Build:
    """Compiles a launch as Triton would on that GPU, with the alignment of these very arguments."""
    config = config or launch.configs[0]
    given = launch.arguments | config.kwargs
    passed = runtime_arguments(launch, config)
    names = launch.kernel.arg_names
    signature = {n: _type(passed[n]) if n in passed else "constexpr" for n in names}
    attrs = {(names.index(n),): [["tt.divisibility", 16]] for n, value in passed.items() if _divisible(value)}
    constants = {n: given[n] for n in names if n not in passed}
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attrs)
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    compiled = triton.compile(source, target=TARGETS[target], options=options)
    shared, warps = compiled.metadata.shared, compiled.metadata.num_warps
    if target.startswith("gfx"):
        return Build(compiled.asm, warps, *_read_amd(compiled.asm["amdgcn"]), shared, Counter())
    registers, stack, instructions = _read(compiled.asm["cubin"])
    return Build(compiled.asm, warps, registers, stack, shared, instructions)


def _type(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "*" + _TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def _divisible(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.data_ptr() % 16 == 0
    return isinstance(value, int) and value % 16 == 0


def _read(cubin: bytes) -> tuple[int, int, Counter[str]]:
    """Registers, stack and instructions of an NVIDIA binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _tool(triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name)
        code = _tool(triton.knobs.nvidia.nvdisasm.path, "-c", file.name)
    used = dict(re.findall(r"(REG|STACK):(\d+)", usage))
    opcodes = re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)", code, re.MULTILINE)
    return int(used["REG"]), int(used["STACK"]), Counter(opcodes)


def _read_amd(text: str) -> tuple[int, int]:
    def number(key: str) -> int:
        found = re.search(rf"\.{key}:\s+(\d+)", text)
        return int(found[1]) if found else 0

    return number("vgpr_count"), number("private_segment_fixed_size")


def _tool(path: str, *args: str) -> str:
    return subprocess.run([path, *args], capture_output=True, text=True, check=True).stdout

"""What every command shares: how it starts and ends, its device, its run folder, its random numbers."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.deterministic
import tyro

import hitrs_fast

from .data.records import DataError

BAD_INPUT = 2
INTERRUPTED, READER_LEFT = 130, 141  # as shells report SIGINT and SIGPIPE
CACHE_VARIABLE = "HITRS_FAST_CACHE"
DEMO_STORE = "demo-1.zarr"  # the number goes up when the generator changes
RUNS = Path("runs")
CPU_INFO = Path("/proc/cpuinfo")
PACKAGES = ("torch", "triton", "numpy", "zarr", "safetensors", "tyro", "huggingface-hub")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
log = logging.getLogger(__name__)


class Stopped(Exception):
    """A run was asked to stop and has saved its state. The text, on one rank, says how to go on; the exit code is 0."""


def run(main: Callable[[], None]) -> None:
    """Run a command. Input that cannot be used ends it with one sentence on stderr and exit code 2, no traceback.

    OSError counts as such: it names the file and what the system refused (no space, no permission).
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
    except Stopped as stop:
        if stop.args:
            print(stop, file=sys.stderr)
    except BrokenPipeError:  # whoever read stdout has left, as `| head` does; the rest, written at exit, goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(READER_LEFT) from None
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def run_subcommand(commands: Any, prog: str, about: str, args: Sequence[str] | None) -> None:
    """Runs the one of `commands`, a union of dataclasses, that the command line or `args` names.

    `about`: the command's docstring, of which the part before the colon is shown.
    """
    description = about.partition(":")[0] + "."
    command = tyro.cli(commands, prog=prog, description=description, args=args, config=(tyro.conf.FlagCreatePairsOff,))
    run(command.run)


def pick_device(name: str | None) -> torch.device:
    """The device of that name, or CUDA where there is one and the CPU elsewhere."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise DataError(f"--device is {name!r}; it must be cpu, cuda or cuda:NUMBER")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DataError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices; try --device cpu")
    return torch.device(name)


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory instead of handing it back to the system; other systems need no telling.

    A training step frees and takes the same large tensors again. Given back, their pages have to be faulted in and
    zeroed each time: a fifth of a step on a CPU (docs/performance.md).
    """
    set_allocator(mappings=0, trim_threshold=2**31 - 1)


def set_allocator(mappings: int, trim_threshold: int) -> None:
    """glibc's limits: how many blocks get pages of their own, and how many free bytes it keeps."""
    with contextlib.suppress(AttributeError, OSError):  # another C library has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, mappings)
        mallopt(M_TRIM_THRESHOLD, trim_threshold)


def use_compiler(device: torch.device, run: Path | None) -> None:
    """Compiled code goes beside the runs, unless TORCHINDUCTOR_CACHE_DIR says where: the next start finds it.

    DataError on a CPU without a C++ compiler, which torch.compile needs there.
    """
    compiler = os.environ.get("CXX") or ("cl" if os.name == "nt" else "g++")  # as torch looks for it
    if device.type == "cpu" and not shutil.which(compiler):
        raise DataError(
            f"--compile needs a C++ compiler and finds no {compiler}: install one (Debian and Ubuntu: apt install g++; "
            f"conda: conda install gxx), or name another in the variable CXX, or leave --compile out"
        )
    runs = RUNS if run is None else run.parent
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((runs / ".compile-cache").resolve()))


def timed_warm_up(warm_up: Callable[[], None], sizes: int) -> None:
    """Compiles, and says how long that will take and took."""
    log.info(
        "compiling for %d batch size%s: one to two minutes each on a CPU the first time, a fraction of it with what "
        "%s holds by then",
        *(sizes, "s" * (sizes > 1), os.environ.get("TORCHINDUCTOR_CACHE_DIR", "torch's cache")),
    )
    begin = time.perf_counter()
    warm_up()
    log.info("compiled in %.0f s", time.perf_counter() - begin)


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Operations give the same bits each time within it.

    On CUDA, operations that have no such form warn instead of failing.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses the mode without
    former = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # Filling new memory would cost time, and nothing here reads it unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(former[0], warn_only=former[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def demo_store() -> Path:
    """The built-in demo store, made on first use in the user's cache folder (or HITRS_FAST_CACHE)."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path(home) / "hitrs_fast")
    path = folder / DEMO_STORE
    if not path.exists():
        from .data.synthetic import DemoReader
        from .data.writer import write_store

        log.info("making the demo store %s (600 synthetic recordings)", path)
        write_store(path, DemoReader())
    return path


def new_run_folder(path: Path | None, command: str, resume: bool) -> Path:
    """The run's folder, made; `runs/<command>-<time>` if none is named. One that exists needs `resume`."""
    if path is None:
        if resume:
            raise DataError("--resume needs --run DIR, the run to go on with")
        path = RUNS / f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    if path.exists() and not resume:
        raise DataError(f"{path} exists already; give --resume to go on with it, or another --run")
    path.mkdir(parents=True, exist_ok=True)
    return path


def environment(device: torch.device) -> dict[str, Any]:
    """What a run should be able to say about where it ran."""
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "command": sys.argv,
        "hitrs_fast": hitrs_fast.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
        "host": platform.node(),
        "cpu": {"name": cpu_name(), "cores": os.cpu_count()},
        "gpu": {"name": gpu.name, "memory": gpu.total_memory, "of": torch.cuda.device_count()} if gpu else None,
        "threads": torch.get_num_threads(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of the checkout that this code runs from, with + after it where tracked files were changed."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    if not shutil.which("git") or not git("ls-files", Path(__file__).name):  # an environment within another checkout
        return None
    return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", "--untracked-files=no"))


def cpu_name() -> str:
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def seed_step(seed: int, stream: int, step: int, generator: torch.Generator, rank: int = 0) -> None:
    """Seeds a step's random numbers from (seed, stream, step) alone: `generator` and, for dropout, torch's own.

    Dropout's come from the rank too, as each drops out of other sequences.
    """
    own, _ = _two_seeds([seed, stream, step])
    _, dropout = _two_seeds([seed, stream, step, rank])  # of rank 0 as without it
    generator.manual_seed(own)
    torch.manual_seed(dropout)


def _two_seeds(entropy: list[int]) -> list[int]:
    return (np.random.SeedSequence(entropy).generate_state(2, np.uint64) >> np.uint64(1)).tolist()

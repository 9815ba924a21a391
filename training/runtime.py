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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import hitrs_fast

from .data.records import DataError

BAD_INPUT = 2
INTERRUPTED = 130  # as shells report it
CACHE_VARIABLE = "HITRS_FAST_CACHE"
DEMO_STORE = "demo-1.zarr"  # the number goes up when the generator changes
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
log = logging.getLogger(__name__)


def run(main: Callable[[], None]) -> None:
    """Run a command. Input that cannot be used ends it with one sentence on stderr and exit code 2, no traceback.

    OSError counts as such: it names the file and what the system refused (no space, no permission).
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main()
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


def check_compiler(device: torch.device) -> None:
    """torch.compile on a CPU needs a C++ compiler: say so before it fails deep inside."""
    candidates = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    if device.type == "cpu" and not any(c and shutil.which(c) for c in candidates):
        raise DataError(
            "--compile needs a C++ compiler (g++ or clang++) and found none: install one "
            "(Debian and Ubuntu: apt install g++), or leave --compile out"
        )


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
        path = Path("runs") / f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    if path.exists() and not resume:
        raise DataError(f"{path} exists already; give --resume to go on with it, or another --run")
    path.mkdir(parents=True, exist_ok=True)
    return path


def environment(device: torch.device) -> dict[str, Any]:
    """What a run should be able to say about where it ran."""
    commit = None
    if shutil.which("git"):
        here = Path(__file__).parent
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
        commit = found.stdout.strip() or None
    return {
        "command": sys.argv,
        "hitrs_fast": hitrs_fast.__version__,
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def seed_step(seed: int, stream: int, step: int, generator: torch.Generator) -> None:
    """Seeds a step's random numbers from (seed, stream, step) alone: `generator` and, for dropout, torch's own."""
    own, dropout = np.random.SeedSequence([seed, stream, step]).generate_state(2, np.uint64) >> np.uint64(1)
    generator.manual_seed(int(own))
    torch.manual_seed(int(dropout))

"""Runs the tests in `compiled/`, which need Triton's compiler: the interpreter of this process would replace it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "compiled"
FILES = sorted(path.name for path in FOLDER.glob("test_*.py"))


def run(name: str, marker: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-m", marker, str(FOLDER / name)]
    done = subprocess.run(
        command, env=os.environ | {"TRITON_INTERPRET": "0", "HITRS_FAST_AUTOTUNE": "1"}, capture_output=True, text=True
    )
    assert done.returncode in (0, 5), done.stdout[-8000:] + done.stderr[-2000:]  # 5: none of this kind in the file


@pytest.mark.parametrize("name", FILES)
def test_compiled(name: str) -> None:
    run(name, "not slow and not gpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_compiled_slowly(name: str) -> None:
    run(name, "slow and not gpu")

"""The wheel: small, one package, with the kernels in it, and no need of Triton on a CPU."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
USE = """
import sys
sys.modules["triton"] = None  # its import now fails
import numpy as np
import hitrs_fast as hf, hitrs_fast.kernels
assert hf.__file__.startswith(sys.argv[1]), hf.__file__
encoder = hf.HiTRS(hf.HiTRSConfig.small())
assert encoder.embed([np.zeros((20, 25, 3), "float32")]).shape == (1, 256)
"""
TIMED = """
import sys, time
import torch
begin = time.perf_counter()
import hitrs_fast
print(time.perf_counter() - begin)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode and "setuptools" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("no package index to take setuptools from")
    assert not done.returncode, done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_what_is_in_it(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl") and wheel.stat().st_size < 325_000
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"hitrs_fast"}
    for file in ("py.typed", "kernels/attention_kernels.py", "training/pretrain.py", "training/data/readers/ntu.py"):
        assert f"hitrs_fast/{file}" in names


@pytest.mark.slow
def test_it_runs_alone_and_without_triton(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    here = {"PYTHONPATH": str(tmp_path / "site"), "PATH": sysconfig.get_path("scripts")}
    subprocess.run([sys.executable, "-c", USE, str(tmp_path / "site")], cwd=tmp_path, env=here, check=True)
    helped = [sys.executable, "-m", "hitrs_fast.training.pretrain", "--help"]
    assert (
        "Pre-train" in subprocess.run(helped, cwd=tmp_path, env=here, check=True, capture_output=True, text=True).stdout
    )


@pytest.mark.slow
def test_importing_it_is_quick_beside_torch() -> None:
    times = [
        float(subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.5

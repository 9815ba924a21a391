"""Without a GPU, kernels run in Triton's interpreter, in this very process: it has to be asked for before Triton loads.

What needs the compiler instead is in `compiled/`: `test_compiled.py` runs it in processes of their own, with
TRITON_INTERPRET=0.
"""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

if os.environ.get("TRITON_INTERPRET") != "0":
    collect_ignore = ["compiled"]


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """A test that draws without a generator of its own draws the same each time, whatever ran before it."""
    torch.manual_seed(0)

"""Without a GPU, kernels run in Triton's interpreter, in this very process: it has to be asked for before Triton loads.

What needs the compiler instead is in `compiled/`, which `test_compiled.py` runs in a process of its own.
"""

from __future__ import annotations

import os

import torch

collect_ignore = ["compiled"]

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

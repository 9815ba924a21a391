"""Launch configurations: the first of each list is what runs, unless HITRS_FAST_AUTOTUNE=1 asks for measuring them all.

Triton then times the list once for each combination of the sizes and dtypes that the kernel is compiled for (never for
the number of clips or frames) and keeps the result on disk beside its compiled kernels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import triton

AUTOTUNE = os.environ.get("HITRS_FAST_AUTOTUNE") == "1"


def tuned(configs: Sequence[triton.Config], key: Sequence[str]) -> Callable[[Any], Any]:
    """Decorates a kernel; `configs[0]` is the default. `key`: arguments that a choice holds for, besides the dtypes."""
    return triton.autotune(configs=list(configs) if AUTOTUNE else list(configs[:1]), key=list(key), cache_results=True)

"""Launch configurations: the first of each list is what runs, unless HITRS_FAST_AUTOTUNE=1 asks for measuring them all.

Triton then times the list once for each combination of the sizes and dtypes that the kernel is compiled for (never for
the number of clips or frames) and keeps the result on disk beside its compiled kernels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton

AUTOTUNE = os.environ.get("HITRS_FAST_AUTOTUNE") == "1"


def tuned(
    configs: Sequence[triton.Config], key: Sequence[str], single: Sequence[triton.Config] = (), operand: str = ""
) -> Callable[[Any], Any]:
    """Decorates a kernel; the first of `configs` is the default.

    key: arguments that a choice holds for, besides the dtypes.
    single, operand: configurations for where the tensor named `operand` is float32. Such products do not run on the
        matrix units, and their tiles have to be smaller to fit the registers.
    """
    most = None if AUTOTUNE else 1
    half, full = list(configs[:most]), list(single[:most])

    def fitting(_: Any, arguments: dict[str, Any], **__: Any) -> list[triton.Config]:
        return full if full and arguments[operand].dtype == torch.float32 else half

    return triton.autotune(half + full, list(key), prune_configs_by={"early_config_prune": fitting}, cache_results=True)

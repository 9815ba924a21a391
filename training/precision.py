"""In which precision a run computes: autocast's dtype and TF32 (docs/training.md: what stays in float32).

Weights, gradients and the optimiser are float32 always. Float16 needs a loss scaler too, which the training loop holds.
"""

from __future__ import annotations

from typing import Literal

import torch

from .data.records import DataError

PrecisionName = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def precision_of(name: PrecisionName | None, device: torch.device) -> torch.dtype:
    """The dtype that matrix products run in: bfloat16 on CUDA and float32 elsewhere, unless one is named."""
    if name == "fp16" and device.type != "cuda":
        raise DataError(f"--precision fp16 is for CUDA and the run is on {device}; take fp32 or bf16")
    return DTYPES[name or ("bf16" if device.type == "cuda" else "fp32")]


def use_tf32(wanted: bool, device: torch.device) -> None:
    """Lets float32 matrix products round their factors to 10 bits (TF32), or not. It is set for the whole process."""
    if wanted and device.type != "cuda":
        raise DataError(f"--tf32 is for CUDA and the run is on {device}; leave it out")
    torch.backends.cuda.matmul.allow_tf32 = wanted


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)

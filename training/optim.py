"""Optimisers and the learning-rate schedule of the presets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class OptimConfig:
    lr: float
    end_lr: float = 0.0
    """Where the schedule ends."""
    power: float = 1.0
    """Of the polynomial decay."""
    milestones: tuple[tuple[float, float], ...] = ()
    """Instead of the polynomial decay, steps: (part of the schedule, factor of lr from there on), in order."""
    weight_decay: float = 0.01
    decay: str = "decoupled"
    """"decoupled" is AdamW; "l2" adds the decay to the gradient, as the paper's words have it."""
    clip_norm: float | None = 1.0
    """Gradients are scaled down to this norm; None leaves them."""


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW or Adam; only the matrices of linear layers decay (the authors' choice)."""
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    decayed = [p for p in model.parameters() if id(p) in matrices]
    others = [p for p in model.parameters() if id(p) not in matrices]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    kind = torch.optim.AdamW if config.decay == "decoupled" else torch.optim.Adam
    return kind(groups, lr=config.lr, fused=True)


def lr_at(step: int, steps: int, warmup: int, config: OptimConfig) -> float:
    """Linear from 0 over `warmup` steps, then polynomial to `end_lr` at `steps` (the paper's supplement,
    section 1), or by the milestones."""
    if step < warmup:
        return config.lr * step / warmup
    if config.milestones:
        return config.lr * next((f for part, f in reversed(config.milestones) if step >= round(part * steps)), 1.0)
    left = 1 - (step - warmup) / max(steps - warmup, 1)
    return config.end_lr + (config.lr - config.end_lr) * max(left, 0.0) ** config.power

"""What each preset trains: sizes, pretext rules, augmentation and optimiser together (docs/design.md says whence)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hitrs_fast import HiTRSConfig, PretextConfig, SkeletonLayout

from .data.augment import AugmentConfig
from .optim import OptimConfig


@dataclass(frozen=True)
class PretrainRecipe:
    encoder: HiTRSConfig
    pretext: PretextConfig
    augment: AugmentConfig
    optim: OptimConfig
    batch_size: int
    accumulate: int
    """Batches whose gradients are averaged before a step."""
    steps: int


def pretrain_recipe(preset: str, layout: SkeletonLayout, **sizes: Any) -> PretrainRecipe:
    optim, batch_size, accumulate, steps = {
        "paper": (OptimConfig(4e-4, clip_norm=None), 256, 1, 30_000),
        # The authors' run goes on to 50,000 steps, on which their decay is laid out, and keeps step 30,000.
        "authors": (OptimConfig(4e-4, end_lr=2e-6), 64, 4, 50_000),
        "small": (OptimConfig(1e-3), 32, 1, 3_000),
    }[preset]
    return PretrainRecipe(
        HiTRSConfig.preset(preset, layout, **sizes),
        PretextConfig.preset(preset),
        AugmentConfig.preset(preset),
        optim,
        batch_size,
        accumulate,
        steps,
    )

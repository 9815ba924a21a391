"""The models and batches that the benchmarks share.

Every comparison runs both models on the same weights and the same draws, dropout off, in float32, with the `paper`
preset unless a case says otherwise.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

import hitrs_fast as hf
from hitrs_fast.clips import clip_counts
from training.data.corrupt import draw_pretext

from .buildup import BuildUp
from .reference import Reference

CLASSES = 60
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def ntu_like(batch_size: int) -> np.ndarray:
    """Lengths distributed like NTU RGB+D's: 20 to 300 frames, 83 on average."""
    return np.clip(np.random.default_rng(0).lognormal(4.33, 0.42, batch_size).astype(int), 20, 300)


def models(preset: str = "paper", dtype: torch.dtype = torch.float32) -> tuple[BuildUp, hf.Pretraining]:
    """The build-up (level 0: the reference) and the product with the same random weights."""
    torch.manual_seed(0)
    config, pretext = hf.HiTRSConfig.preset(preset), hf.PretextConfig.preset(preset)
    reference = BuildUp(config, pretext, CLASSES).to(DEVICE, dtype).eval()
    product = hf.Pretraining(hf.HiTRS(config), pretext).to(DEVICE, dtype).eval()
    state = {k: t for k, t in reference.state_dict().items() if not k.startswith("v_cls.")}
    product.load_state_dict(hf.load_authors_checkpoint(state).state_dict())
    return reference, product


def recognizer(reference: Reference, product: hf.Pretraining) -> hf.Recognizer:
    """A recognizer on the product's encoder, with the reference's classifier."""
    model = hf.Recognizer(product.encoder, CLASSES, bodies=2).to(product.contrast_head.weight).eval()
    model.classifier.load_state_dict(reference.v_cls.state_dict())
    return model


@cache
def frames_of(total: int, dtype: torch.dtype) -> Tensor:
    """Smooth random motion `[total, 25, 3]`."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(total, 25, 3, generator=generator).cumsum(0).mul(0.01).to(DEVICE, dtype)


def lengths_of(batch_size: int) -> Tensor:
    return torch.from_numpy(ntu_like(batch_size)).to(DEVICE)


def pretext_batch(
    lengths: np.ndarray, model: hf.Pretraining, dtype: torch.dtype = torch.float32
) -> tuple[hf.PretextBatch, hf.Capacity]:
    counted, windows = torch.from_numpy(lengths).to(DEVICE), model.encoder.windows()
    capacity = capacity_of(counted, model.encoder)
    generator = torch.Generator(DEVICE).manual_seed(0)
    frames = frames_of(int(lengths.sum()), dtype)
    batch = draw_pretext(frames, counted, windows, model.pretext, capacity.clips, generator)
    return batch, capacity


def capacity_of(lengths: Tensor, encoder: hf.HiTRS) -> hf.Capacity:
    """Just enough for sequences of these lengths."""
    counts = clip_counts(lengths, encoder.windows())
    return hf.Capacity(int(counts.sum()), int(counts.max()))

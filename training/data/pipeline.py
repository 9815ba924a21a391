"""From a batch of coordinates to a model's input, on the batch's device: centre, augment, take the stream, corrupt."""

from __future__ import annotations

import torch
from torch import Tensor

from hitrs_fast import HiTRSConfig, PretextBatch, PretextConfig
from hitrs_fast.clips import Windows
from hitrs_fast.skeleton import centre_on_hip, is_present, kept_in_place, stream_of

from .augment import AugmentConfig, augment, mirrored
from .corrupt import draw_pretext
from .loader import Batch


def model_frames(
    batch: Batch,
    config: HiTRSConfig,
    augmentation: AugmentConfig | None,
    generator: torch.Generator,
    origin: Tensor | None = None,
) -> Tensor:
    """The stream `[F, J, C]` that an encoder of this configuration reads; without `augmentation` as `HiTRS.prepare`.

    `origin` `[B, C]`: what each sequence is centred on, where that is not its own first hip.
    """
    frames, rows = batch.frames, batch.rows
    if config.center and origin is not None:
        present = is_present(frames)[..., None].to(frames.dtype)
        frames = torch.addcmul(frames, origin.index_select(0, rows.sequence)[:, None], present, value=-1)
        frames = kept_in_place(frames, batch.frames, config.layout) if config.in_place else frames
    elif config.center:
        how = (config.layout, config.align, config.in_place)
        frames = centre_on_hip(frames, rows.sequence, len(batch.lengths), *how)
    if augmentation is not None:
        which = batch.augmented, batch.interpolated
        frames = augment(frames, batch.frames, rows, *which, augmentation, generator, batch.share)
        if augmentation.mirror and config.layout.two_sided:
            frames = mirrored(frames, rows, len(batch.lengths), config.layout, generator, batch.share)
    return stream_of(frames, rows.position == 0, config.layout, config.stream)


def pretext_input(
    batch: Batch,
    config: HiTRSConfig,
    pretext: PretextConfig,
    augmentation: AugmentConfig | None,
    generator: torch.Generator,
) -> PretextBatch:
    frames = model_frames(batch, config, augmentation, generator)
    windows = Windows(config.window, config.stride, config.dilate)
    return draw_pretext(frames, batch.lengths, windows, pretext, batch.capacity.clips, generator, batch.share)

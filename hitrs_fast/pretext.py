"""Pre-training: the encoder with its four pretext heads, and their losses (the paper's section 3.2).

Shape legend: F frames, J joints, C coordinates, B sequences, K clips (capacity), w frames of a clip.
Which joints were corrupted and which clips were permuted is drawn elsewhere and comes in as data, so that the same
draws can be given to another implementation.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from .clips import Windows, clip_counts, clip_frames
from .config import LossWeights, PretextConfig
from .encoder import Capacity, HiTRS
from .ragged import offsets_of

METRES_TO_MM = 1000.0


class PretextBatch(NamedTuple):
    """One pre-training step's input. Rows of `frames` past `sum(lengths)` are padding; an empty sequence is too."""

    frames: Tensor
    """`[F, J, C]`: the stream, some joints corrupted."""
    target: Tensor
    """`[F, J, C]`: the stream, clean."""
    selected: Tensor
    """`[F, J]` bool: joints that the spatial task asks for."""
    lengths: Tensor
    """`[B]` int64: frames of each sequence."""
    pair: Tensor
    """`[2 B, w]` int64, rows of `frames` (F: a zero frame): a clip of each sequence, then those with frames swapped."""
    pair_valid: Tensor
    """`[B]` bool: sequences that the clip task counts."""
    order: Tensor
    """`[K]` int64, rows of clips: each sequence's clips with two swapped; the last clip stays."""
    total: Tensor | None = None
    """`[4]` int64: what the losses are divided by, if not by this batch's own `loss_counts`: by those of the parts of a
    larger batch together, of which this is one. The losses of the parts then add up to that of the larger batch."""


class OtherParts(Protocol):
    """The processes that have the other parts of a larger batch."""

    @property
    def rank(self) -> int: ...

    def gather(self, rows: Tensor) -> Tensor:
        """`[B, D]` of each process to `[processes * B, D]`, in the order of their ranks; without a gradient."""
        ...


class Pretraining(nn.Module):
    """The encoder and one linear head for each of the four tasks (the paper's section 3.2).

    Args:
        encoder: it is trained in place.
        pretext: the rules of the tasks; without it the authors'.
        weights: of the losses; without it all 1.
    """

    others: OtherParts | None = None
    """Where batches are parts of larger ones: the discriminative task then finds clips among those of all parts."""

    def __init__(
        self, encoder: HiTRS, pretext: PretextConfig | None = None, weights: LossWeights | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pretext = pretext or PretextConfig()
        self.weights = weights or LossWeights()
        frame, clip, video = encoder.config.widths
        self.pose_head = nn.Linear(frame, encoder.config.channels)
        self.clip_head = nn.Linear(clip, 2)
        self.video_head = nn.Linear(video, 2)
        self.contrast_head = nn.Linear(video, clip)

    def forward(self, batch: PretextBatch, capacity: Capacity) -> dict[str, Tensor]:
        """Weighted sum `loss`, and for every task with a weight its loss and metric, as scalars `[]`.

        `loss_spatial` (equation 5) with `pose_mm`, the mean distance of the selected joints in mm, where the stream is
        in metres; `loss_clip` with `clip_acc` and `loss_video` with `video_acc` (equation 6); `loss_contrast`
        (equation 7, with the -log of InfoNCE, which is not printed there) with `retrieval_acc`. `PretextConfig` has
        the variants. Losses are float32, or float64 where the model is.

        `capacity` must hold the batch's clips. Raises ValueError if `capacity.longest` is beyond the encoder's
        positions.
        """
        weights, encoder = self.weights, self.encoder
        tokens = encoder.frames(batch.frames)
        out: dict[str, Tensor] = {}
        total = loss_counts(batch, encoder.windows()) if batch.total is None else batch.total
        spatial, ordered, *of_videos = total.clamp(min=1).unbind()
        if weights.spatial:
            with torch.autocast(tokens.device.type, enabled=False):  # bfloat16 would round poses to 16 mm
                poses = self.pose_head(tokens[:-1].to(self.pose_head.weight.dtype))
            out |= pose_loss(poses, batch, self.pretext, spatial)
        wants_video = weights.video > 0 or weights.contrast > 0
        if wants_video or weights.clip:
            clips, pairs = self._clips(tokens, batch, capacity, wants_video)
            if weights.clip:
                out |= order_loss("clip", self.clip_head(pairs), batch.pair_valid, self.pretext, ordered)
            if wants_video:
                out |= self._video_losses(clips, batch, capacity, *of_videos)
        parts = {f"loss_{name}": getattr(weights, name) for name in ("spatial", "clip", "video", "contrast")}
        return {"loss": sum((w * out[k] for k, w in parts.items() if w), start=tokens.new_zeros(()))} | out

    def _clips(
        self, tokens: Tensor, batch: PretextBatch, capacity: Capacity, wants_video: bool
    ) -> tuple[Tensor, Tensor]:
        """Window clips and clip pairs through C-TRS in one call."""
        windows = clip_frames(batch.lengths, self.encoder.windows(), capacity.clips, zero_row=batch.frames.shape[0])
        index = [windows] * wants_video + [batch.pair] * (self.weights.clip > 0)
        clips, _ = self.encoder.clips(tokens, torch.cat(index))
        split = capacity.clips if wants_video else 0
        return clips[:split], clips[split:]

    def _video_losses(
        self, clips: Tensor, batch: PretextBatch, capacity: Capacity, ordered: Tensor, found: Tensor
    ) -> dict[str, Tensor]:
        """V-TRS over all clips but the last, in their own order and permuted; the last clip is what to retrieve."""
        counts = clip_counts(batch.lengths, self.encoder.windows())
        starts, shown = offsets_of(counts)[:-1], (counts - 1).clamp(min=0)
        rows, batch_size = clips.shape[0], counts.shape[0]
        if self.weights.video:
            clips_in = torch.cat([clips, clips.index_select(0, batch.order)])
            starts_in, shown_in = torch.cat([starts, starts + rows]), torch.cat([shown, shown])
        else:
            clips_in, starts_in, shown_in = clips, starts, shown
        video, _ = self.encoder.videos(clips_in, starts_in, shown_in, max(capacity.longest - 1, 1))
        out: dict[str, Tensor] = {}
        if self.weights.video:
            out |= order_loss("video", self.video_head(video), shown >= 2, self.pretext, ordered)
        if self.weights.contrast:
            last = clips.index_select(0, (starts + shown).clamp(max=rows - 1)).detach()
            predicted = self.contrast_head(video[:batch_size])
            out |= contrast_loss(predicted, last, counts > 0, self.pretext.temperature, found, self.others)
        return out


def loss_counts(batch: PretextBatch, windows: Windows) -> Tensor:
    """How many of a batch the spatial, clip, video and discriminative loss count, `[4]` int64: joints, then originals
    and permuted ones of clips and of videos, then sequences."""
    clips = clip_counts(batch.lengths, windows)
    return torch.stack(
        [batch.selected.sum(), 2 * batch.pair_valid.sum(), 2 * (clips >= 3).sum(), (clips > 0).sum()]
    )  # fmt: skip


def pose_loss(predicted: Tensor, batch: PretextBatch, pretext: PretextConfig, count: Tensor) -> dict[str, Tensor]:
    """Spatial task (equation 5): the clean coordinates of the selected joints. predicted `[F, J, C]`.

    `count`, here and below: what the sum is divided by, at least 1.
    """
    predicted = _at_least_float(predicted)
    target = batch.target.to(predicted.dtype)
    if pretext.pose_loss == "l1":
        each = (predicted - target).abs().sum(-1)
    else:
        each = fn.smooth_l1_loss(10 * predicted, 10 * target, reduction="none").mean(-1)
    distance = (predicted - target).detach().norm(dim=-1)
    return {
        "loss_spatial": torch.where(batch.selected, each, 0).sum() / count,
        "pose_mm": torch.where(batch.selected, distance, 0).sum() / count * METRES_TO_MM,
    }


def order_loss(name: str, logits: Tensor, valid: Tensor, pretext: PretextConfig, count: Tensor) -> dict[str, Tensor]:
    """Temporal tasks (equation 6): logits `[2 B, 2]` of originals (class 1), then permuted ones (0); `valid` `[B]`."""
    labels = torch.ones_like(valid, dtype=torch.long)
    labels, counted = torch.cat([labels, 1 - labels]), torch.cat([valid, valid])
    each = fn.cross_entropy(_at_least_float(logits), labels, reduction="none")
    scale = 2.0 if pretext.order_loss == "sum" else 1.0
    right = (logits.argmax(-1) == labels) & counted
    return {f"loss_{name}": scale * torch.where(counted, each, 0).sum() / count, f"{name}_acc": right.sum() / count}


def contrast_loss(
    predicted: Tensor,
    target: Tensor,
    valid: Tensor,
    temperature: float,
    count: Tensor,
    others: OtherParts | None = None,
) -> dict[str, Tensor]:
    """Discriminative task (equation 7, by cosine): each row of `predicted` `[B, D]` is to find its row of `target`.

    With `others` it has to find it among their rows too. `target` takes no gradient, as the authors have it, so none
    has to find its way back to the other processes.
    """
    predicted = fn.normalize(_at_least_float(predicted), dim=-1)
    target = fn.normalize(_at_least_float(target), dim=-1)
    own, candidate = torch.arange(len(valid), device=valid.device), valid
    if others is not None:
        gathered = others.gather(torch.cat([target, valid[:, None].to(target.dtype)], 1))
        target, candidate = gathered[:, :-1], gathered[:, -1] > 0
        own = own + others.rank * len(valid)
    with torch.autocast(predicted.device.type, enabled=False):  # bfloat16 cannot tell similar clips apart
        logits = (predicted @ target.T / temperature).masked_fill(~candidate, float("-inf"))
    # A row of padding would be compared with nothing: its logits are replaced, and its loss is not counted.
    each = fn.cross_entropy(torch.where(valid[:, None], logits, 0), own, reduction="none")
    right = (logits.argmax(-1) == own) & valid
    return {"loss_contrast": torch.where(valid, each, 0).sum() / count, "retrieval_acc": right.sum() / count}


def _at_least_float(x: Tensor) -> Tensor:
    """Losses are computed in float32 under autocast, and in float64 where the model is."""
    return x if x.dtype == torch.float64 else x.float()

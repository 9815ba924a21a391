"""Task heads on the encoder.

Shape legend: F frames, J joints, C coordinates, B sequences (one body's track each), N samples (recordings).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .encoder import Capacity, HiTRS
from .hub import HubHead
from .ragged import offsets_of

DETECTION_DILATE = 4  # at 30 frames/s a clip then spans 25 frames, about a second


def _names(classes: int | Sequence[str]) -> tuple[int, list[str] | None]:
    """How many classes there are, and their names where these are given."""
    return (len(classes), list(classes)) if isinstance(classes, Sequence) else (classes, None)


class FrameClassifier(HubHead):
    """Action detection: a class for every frame, from the clip centred on it (the paper's section 4.5).

    Clips begin at every frame (stride 1); each frame still goes through F-TRS once, and V-TRS is not run.

    Args:
        encoder: its window must be odd, so that a clip has a frame at its centre; else ValueError.
        classes: how many there are, background among them, or their names, which `class_names` then holds.
        dilate: frames from one frame of a clip to the next; 4 spans about a second at 30 frames a second.
        dropout: on the clip embeddings, before the classifier.
    """

    def __init__(
        self, encoder: HiTRS, classes: int | Sequence[str], dilate: int = DETECTION_DILATE, dropout: float = 0.0
    ) -> None:
        if encoder.config.window % 2 == 0:
            raise ValueError(
                f"the encoder's window is {encoder.config.window}; only an odd one has a frame at its centre"
            )
        super().__init__()
        self.encoder = encoder
        self.dilate = dilate
        count, self.class_names = _names(classes)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.widths[1], count)

    def options(self) -> dict[str, Any]:
        """What the constructor takes beside the encoder."""
        classes = self.class_names or self.classifier.out_features
        return {"classes": classes, "dilate": self.dilate, "dropout": self.dropout.p}

    def forward(self, frames: Tensor, lengths: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits `[F, classes]` of frames `[F, J, C]` (as `HiTRS.prepare` gives them) and lengths `[B]`.

        With `rows` `[N]` int64, of these frames alone, `[N, classes]`: the clips around others are not computed. Rows
        past `sum(lengths)` mean nothing. Raises ValueError for a wrong shape.
        """
        everywhere = Capacity(clips=frames.shape[0], longest=1)
        cut = {"stride": 1, "dilate": self.dilate, "capacity": everywhere, "only": rows}
        return self.classifier(self.dropout(self.encoder(frames, lengths, levels="clip", **cut).clip))


class Recognizer(HubHead):
    """Action recognition: the bodies' video embeddings, averaged, and a linear classifier (the paper's section 4.4).

    `bodies=None` averages over the bodies present. The authors divide by two always and encode an absent second
    body as a sequence of zeros: `bodies=2`. Such a sequence need not be in the batch: its clips are all the same, and
    one stands for all of them.

    Args:
        encoder: gives the video embeddings.
        classes: how many there are, or their names, which `class_names` then holds.
        bodies: what the sum over a sample's bodies is divided by; None for those that are present.
    """

    def __init__(self, encoder: HiTRS, classes: int | Sequence[str], bodies: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.bodies = bodies
        count, self.class_names = _names(classes)
        self.classifier = nn.Linear(encoder.config.widths[2], count)

    def options(self) -> dict[str, Any]:
        """What the constructor takes beside the encoder."""
        return {"classes": self.class_names or self.classifier.out_features, "bodies": self.bodies}

    def forward(
        self, frames: Tensor, lengths: Tensor, sample: Tensor, samples: int, capacity: Capacity | None = None
    ) -> Tensor:
        """Logits `[N, classes]` of frames `[F, J, C]`, lengths `[B]` and the sample of each sequence `[B]` (int64).

        Frames are as `HiTRS.prepare` gives them. Samples are numbered 0 .. `samples` - 1; one without a sequence gets
        the classifier's bias. `capacity` as for `HiTRS.forward`. Raises ValueError for a wrong shape, and for more
        clips in a sequence than the encoder has positions for.
        """
        if self.bodies is None:
            video = self.encoder(frames, lengths, capacity=capacity).video
            return self.classify(video, sample, samples, lengths > 0)
        out = self.encoder(frames, lengths, levels="clip", capacity=capacity)
        if capacity is None:
            capacity = Capacity(len(out.clip), max(int(out.clip_lengths.max()), 1))
        member = (sample == torch.arange(samples, device=sample.device)[:, None]) & (lengths > 0)
        missing = torch.where(member.any(1), self.bodies - member.sum(1), 0).clamp(min=0)
        # An absent body is as long as the longest that is there.
        absent = torch.where(missing > 0, torch.where(member, out.clip_lengths, 0).amax(1), 0)
        video = self._videos(out.clip, out.clip_lengths, absent, capacity.longest)
        owner = torch.cat([sample, torch.arange(samples, device=sample.device)])
        return self.classify(video, owner, samples, torch.cat([(lengths > 0).to(missing.dtype), missing]))

    def _videos(self, clip: Tensor, counts: Tensor, absent: Tensor, longest: int) -> Tensor:
        """Video embeddings `[B + N, D3]`: of the sequences, then of N that have `absent` `[N]` clips of zeros."""
        encoder = self.encoder
        zero_frame = encoder.frames(clip.new_zeros(0, encoder.config.joints, encoder.config.channels))
        nowhere = torch.zeros(1, encoder.config.window, dtype=torch.long, device=clip.device)
        zero_clip, _ = encoder.clips(zero_frame, nowhere)
        clips = torch.cat([clip, zero_clip.expand(len(absent) * longest, -1)])
        first = len(clip) + longest * torch.arange(len(absent), device=clip.device)
        starts = torch.cat([offsets_of(counts)[:-1], first])
        video, _ = encoder.videos(clips, starts, torch.cat([counts, absent]), longest)
        return video

    def classify(self, video: Tensor, sample: Tensor, samples: int, counted: Tensor) -> Tensor:
        """Video embeddings `[B, D3]`, their samples `[B]`, how often each counts `[B]`, to logits `[N, classes]`."""
        # A matrix product sums each sample's bodies in a fixed order, forward and backward.
        member = (sample == torch.arange(samples, device=sample.device)[:, None]) * counted
        count = self.bodies if self.bodies is not None else member.sum(1, keepdim=True).clamp(min=1)
        return self.classifier(member.to(video.dtype) @ video / count)

"""Task heads on the encoder.

Shape legend: F frames, J joints, C coordinates, B sequences (bodies), N samples (recordings).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .encoder import Capacity, HiTRS


class Recognizer(nn.Module):
    """Action recognition: the bodies' video embeddings, averaged, and a linear classifier (the paper's section 3.4).

    `bodies=None` averages over the bodies present. The authors divide by two always and encode an absent second
    body as a sequence of zeros: `bodies=2`, and such sequences in the batch.
    """

    def __init__(self, encoder: HiTRS, classes: int, bodies: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.bodies = bodies
        self.classifier = nn.Linear(encoder.config.widths[2], classes)

    def forward(
        self, frames: Tensor, lengths: Tensor, sample: Tensor, samples: int, capacity: Capacity | None = None
    ) -> Tensor:
        """frames `[F, J, C]`, lengths `[B]` and the sample of each sequence `[B]` to logits `[N, classes]`.

        Samples are numbered 0 .. `samples` - 1; one without a sequence gets the classifier's bias.
        """
        video = self.encoder(frames, lengths, capacity=capacity).video
        # A matrix product sums each sample's bodies in a fixed order, forward and backward.
        member = sample == torch.arange(samples, device=sample.device)[:, None]
        member = member & (lengths > 0)
        count = self.bodies if self.bodies is not None else member.sum(1, keepdim=True).clamp(min=1)
        return self.classifier(member.to(video.dtype) @ video / count)

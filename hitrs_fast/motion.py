"""Motion prediction: heads that give the poses that follow a sequence.

Shape legend: F frames, J joints, C coordinates, B sequences, n recent poses, D3 width of the video level.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .encoder import Capacity, HiTRS
from .hub import HubHead
from .ragged import offsets_of


class MotionPredictor(HubHead):
    """Motion prediction: a GRU decoder begins from the video embedding and adds to the last pose (section 4.6).

    The decoder follows Martinez et al. (CVPR 2017), whom the paper cites: y[t] = y[t-1] + Linear(Drop(h[t])) with
    h[t] = GRU(y[t-1], h[t-1]), its own poses fed back; h[0] = Linear(video).

    Args:
        encoder: poses are predicted in its stream, in that stream's units.
        hidden: width of the GRU's state.
        dropout: on the state, before it becomes a change of pose.
        detach: whether poses are fed back without gradient, as in Martinez et al.'s code.
    """

    def __init__(self, encoder: HiTRS, hidden: int = 1024, dropout: float = 0.5, detach: bool = True) -> None:
        super().__init__()
        self.encoder = encoder
        self.detach = detach
        pose = encoder.config.joints * encoder.config.channels
        self.start = nn.Linear(encoder.config.widths[2], hidden)
        self.cell = nn.GRUCell(pose, hidden)
        self.dropout = nn.Dropout(dropout)
        self.change = nn.Linear(hidden, pose)

    def options(self) -> dict[str, Any]:
        """What the constructor takes beside the encoder."""
        return {"hidden": self.cell.hidden_size, "dropout": self.dropout.p, "detach": self.detach}

    def forward(self, frames: Tensor, lengths: Tensor, steps: int = 12, capacity: Capacity | None = None) -> Tensor:
        """The `steps` poses that follow each sequence: frames `[F, J, C]` and lengths `[B]` to `[B, steps, J, C]`.

        `capacity` as for `HiTRS.forward`. Raises ValueError for a wrong shape.
        """
        video = self.encoder(frames, lengths, capacity=capacity).video
        last = (offsets_of(lengths)[1:] - 1).clamp(min=0)
        return self.decode(video, frames.index_select(0, last), steps)

    def decode(self, video: Tensor, last: Tensor, steps: int) -> Tensor:
        """The `steps` poses `[B, steps, J, C]` after the last ones `[B, J, C]`, from video embeddings `[B, D3]`."""
        state, pose = self.start(video), last.flatten(1)
        poses = []
        for _ in range(steps):
            pose = pose.detach() if self.detach else pose
            state = self.cell(pose, state)
            pose = pose + self.change(self.dropout(state))
            poses.append(pose)
        return torch.stack(poses, 1).unflatten(-1, last.shape[1:])


class TrajectoryPredictor(HubHead):
    """Motion prediction without recurrence: all coming poses at once, from the video embedding and the last poses.

    y[t] = y[0] + MLP(video, y[1 - n] - y[0], ..., y[-1] - y[0], y[0])[t], with y[0] the last pose. Unlike the paper's
    decoder it reads velocities, which the embedding of a whole video does not tell well.

    Args:
        encoder: gives the video embeddings.
        steps: poses that are predicted.
        hidden: width of the perceptron's one hidden layer.
        dropout: on that layer.
        recent: n, the last poses that it reads.
    """

    def __init__(
        self, encoder: HiTRS, steps: int = 12, hidden: int = 1024, dropout: float = 0.2, recent: int = 10
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.steps, self.recent = steps, recent
        pose = encoder.config.joints * encoder.config.channels
        self.hidden = nn.Linear(encoder.config.widths[2] + recent * pose, hidden)
        self.dropout = nn.Dropout(dropout)
        self.change = nn.Linear(hidden, steps * pose)

    def options(self) -> dict[str, Any]:
        """What the constructor takes beside the encoder."""
        return {
            "steps": self.steps,
            "hidden": self.hidden.out_features,
            "dropout": self.dropout.p,
            "recent": self.recent,
        }

    def forward(self, frames: Tensor, lengths: Tensor, capacity: Capacity | None = None) -> Tensor:
        """The poses `[B, steps, J, C]` that follow each sequence: frames `[F, J, C]` and lengths `[B]`, n at least.

        `capacity` as for `HiTRS.forward`. Raises ValueError for a wrong shape.
        """
        video = self.encoder(frames, lengths, capacity=capacity).video
        back = torch.arange(-self.recent, 0, device=frames.device)
        rows = (offsets_of(lengths)[1:, None] + back).clamp(min=0)
        return self.decode(video, frames.index_select(0, rows.flatten()).unflatten(0, rows.shape))

    def decode(self, video: Tensor, recent: Tensor) -> Tensor:
        """The poses `[B, steps, J, C]` after the last ones `[B, n, J, C]`, from video embeddings `[B, D3]`."""
        poses = recent.flatten(2)
        last = poses[:, -1:]
        read = torch.cat([video, (poses[:, :-1] - last).flatten(1), last.flatten(1)], 1)
        change = self.change(self.dropout(nn.functional.gelu(self.hidden(read))))
        return (last + change.unflatten(1, (self.steps, -1))).unflatten(-1, recent.shape[2:])

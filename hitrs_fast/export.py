"""One sequence of any length as a graph that runs without this package: `torch.export` and ONNX.

The ragged path reads its sizes off a batch's lengths, which a graph cannot do. Here the number of frames is the shape
of the input, and all else is arithmetic on it.

Shape legend: T frames, J joints, C coordinates, K clips, w frames of a clip. Widths D2, D3 belong to clips and videos.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from hitrs_fast.kernels import masked_attention

from .clips import Windows, clip_count, longest_within, padded_window, window_rows
from .encoder import HiTRS
from .heads import FrameClassifier, Recognizer
from .layers import Layer
from .projection import QKV
from .skeleton import centre_on_hip, stream_of

TRACED = 80  # frames of the sequence that is traced; the graph holds for any number


class SingleSequence(nn.Module):
    """Coordinates of one body `[T, J, C]` (metres, as recorded) to what the model says of them, without dropout.

    HiTRS: the video embedding `[D3]`, as `embed` gives it. Recognizer: logits `[classes]`, the other bodies absent.
    FrameClassifier: logits `[T, classes]`.
    """

    def __init__(self, model: HiTRS | Recognizer | FrameClassifier) -> None:
        super().__init__()
        self.model = model.eval()
        self.encoder: HiTRS = model if isinstance(model, HiTRS) else model.encoder

    @property
    def windows(self) -> Windows:
        if isinstance(self.model, FrameClassifier):
            return self.encoder.windows(1, self.model.dilate)
        return self.encoder.windows()

    @property
    def longest(self) -> int | None:
        """Frames of the longest sequence; None where there is no limit."""
        if isinstance(self.model, FrameClassifier):
            return None
        return longest_within(self.encoder.config.max_clips, self.windows)

    def forward(self, frames: Tensor) -> Tensor:
        clips, visible = self.clips(self.prepare(frames))
        if isinstance(self.model, FrameClassifier):
            return self.model.classifier(clips)
        if isinstance(self.model, HiTRS):
            return self.video(clips[None], visible)[0]
        absent = (self.model.bodies or 1) - 1
        if absent == 0:
            return self.model.classifier(self.video(clips[None], visible)[0])
        nothing = self.encoder.frame_tokens(torch.zeros_like(frames[:1]))
        zero, _ = self.encoder.clips(nothing, torch.zeros(1, self.windows.window, dtype=torch.long))
        there, not_there = self.video(torch.stack([clips, zero.expand_as(clips)]), visible)
        return self.model.classifier((there + absent * not_there) / (absent + 1))

    def prepare(self, frames: Tensor) -> Tensor:
        """`HiTRS.prepare` of one sequence."""
        c = self.encoder.config
        first = torch.arange(frames.shape[0], device=frames.device)
        if c.center:
            frames = centre_on_hip(frames, torch.zeros_like(first), 1, c.layout, c.align, c.in_place)
        return stream_of(frames, first == 0, c.layout, c.stream)

    def clips(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Clip embeddings `[K, D2]` of one sequence; which of them and the CLS after them are real `[1, K + 1]`."""
        count, clips = frames.shape[0], clip_count(frames.shape[0], self.windows)
        # The video level gets two clips or more: a graph in which a size may be 1 would hold for that size alone.
        room = clips if isinstance(self.model, FrameClassifier) else torch.sym_max(clips, 2)
        clip = torch.arange(room, device=frames.device)
        real = clip < clips
        index = padded_window(clip * self.windows.stride, self.windows)
        length = clip.new_zeros(1) + count
        rows = window_rows(index, torch.zeros_like(clip), real, length, self.windows, zero_row=length)
        visible = nn.functional.pad(real, (0, 1), value=True)[None]
        return self.encoder.clips(self.encoder.frames(frames), rows)[0], visible

    def video(self, clips: Tensor, visible: Tensor) -> Tensor:
        """Sequences of as many clips each `[B, K, D2]` to video embeddings `[B, D3]`."""
        encoder = self.encoder
        x = encoder.video_embedding(clips) + encoder.video_position[: clips.shape[1]]
        x = torch.cat([x, encoder.video_cls.expand(clips.shape[0], 1, -1)], 1)

        def attend(qkv: QKV) -> Tensor:
            q, k, v = qkv.unbind(-3) if isinstance(qkv, Tensor) else qkv
            return masked_attention(q, k, v, visible[:, None, None])

        for layer in encoder.video_layers[:-1]:
            x = layer(x, attend)
        last: Layer = encoder.video_layers[-1]  # type: ignore[assignment]
        return last.pooled(x[:, -1], x, visible)


def export(model: HiTRS | Recognizer | FrameClassifier) -> ExportedProgram:
    """`SingleSequence(model)` as a program whose input has any number of frames, up to the encoder's `max_clips` clips.

    Traced on the CPU in the model's precision. `torch.export.save` writes it; `torch.onnx.export` takes it.
    """
    single = SingleSequence(model).cpu()
    c = single.encoder.config
    dtype = single.encoder.clip_cls.dtype
    example = torch.zeros(min(TRACED, single.longest or TRACED), c.joints, c.channels, dtype=dtype)
    shapes = {"frames": {0: Dim("frames", min=1, max=single.longest)}}
    with torch.no_grad():
        return torch.export.export(
            single, (example,), dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
        )

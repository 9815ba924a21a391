"""The Hi-TRS encoder over ragged batches.

Shape legend: F frames (all sequences one after another), J joints, C coordinates, B sequences, K clips (of all
sequences one after another), w frames of a clip. Widths D1, D2, D3 belong to frames, clips and videos.

What is not computed (all of it exact with dropout off): padding between sequences; a frame twice, though clips share
frames; zero frames, of which one stands for all; outputs of the last clip and video layer other than CLS.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hitrs_fast.kernels import (
    IMPLS,
    clip_attention,
    clip_attention_packed,
    frame_attention,
    frame_attention_packed,
    joint_embedding,
    masked_attention,
    operand_dtype,
)

from .clips import Windows, clip_counts, clip_frames, longest_within
from .config import HiTRSConfig
from .hub import HubModel
from .layers import Layer, sinusoid, sinusoid_2d
from .projection import QKV
from .ragged import Slots, groups_of, offsets_of, rows_of, slots_of
from .skeleton import centre_on_hip, stream_of

LEVELS = ("frame", "clip", "video")
EMBED_FRAMES = 8192  # frames that `embed` encodes at a time: a few hundred MB of activations at the paper's sizes


class Capacity(NamedTuple):
    """Fixed sizes of a batch, so that shapes do not depend on its lengths and nothing waits for the device.

    They must be enough: nobody checks, since that would wait.
    """

    clips: int
    """Clips in all, padding included."""
    longest: int
    """Clips of the longest sequence."""


class HiTRSOutput(NamedTuple):
    """What each level gives; None for levels that were not run. Floating dtypes are the model's, or autocast's."""

    frame: Tensor
    """`[F, J, D1]`: a token for each joint of each frame."""
    clip: Tensor | None = None
    """`[K, D2]`: CLS of each clip, those of a sequence one after another."""
    clip_lengths: Tensor | None = None
    """`[B]` int64: clips of each sequence."""
    video: Tensor | None = None
    """`[B, D3]`: CLS of each sequence."""
    clip_tokens: Tensor | None = None
    """`[K, w * J, D2]`, with `tokens=True`: the other tokens of each clip, joints within frames."""
    video_tokens: Tensor | None = None
    """`[K, D3]`, with `tokens=True`: a token for each clip."""


class HiTRS(nn.Module, HubModel):
    """The hierarchical encoder: F-TRS within frames, C-TRS within clips, V-TRS over clips (the paper's section 3.1).

    `from_pretrained(folder)`, `save_pretrained(folder)` and `push_to_hub(name)` are huggingface_hub's: `config.json`
    and `model.safetensors`. Positions begin as sinusoids (Vaswani et al. 2017, section 3.5) and are learnt.
    """

    impl = "auto"  # see `use_kernels`

    def __init__(self, config: HiTRSConfig) -> None:
        super().__init__()
        self.config = config
        frame, clip, video = config.widths
        embedding: list[nn.Module] = [nn.Linear(config.channels, frame), nn.GELU()]
        self.joint_embedding = nn.Sequential(*embedding, *([nn.LayerNorm(frame)] if config.input_norm else []))
        self.joint_position = nn.Parameter(sinusoid(config.joints, frame))
        self.frame_layers = self._layers(0)
        self.clip_embedding = nn.Linear(frame, clip)
        self.clip_position = nn.Parameter(sinusoid_2d(config.window, config.joints, clip))
        self.clip_cls = nn.Parameter(torch.rand(clip))
        self.clip_layers = self._layers(1)
        self.video_embedding = nn.Linear(clip, video)
        self.video_position = nn.Parameter(sinusoid(config.max_clips, video))
        self.video_cls = nn.Parameter(torch.rand(video))
        self.video_layers = self._layers(2)

    def _layers(self, level: int) -> nn.ModuleList:
        c = self.config
        sizes = (c.widths[level], c.ffn[level], c.heads, c.head_dim, c.dropout)
        return nn.ModuleList(Layer(*sizes) for _ in range(c.layers))

    def use_kernels(self, impl: str) -> None:
        """Which implementation the operations run: "auto" (Triton on CUDA, torch elsewhere), "triton", "reference".

        No part of the configuration: checkpoints do not know it. Raises ValueError for another name; "triton" where it
        cannot be had is an error of the next call.
        """
        if impl not in IMPLS:
            raise ValueError(f"impl is {impl!r}, not one of {', '.join(IMPLS)}")
        self.impl = impl
        for module in self.modules():
            if isinstance(module, Layer):
                module.impl = impl

    def windows(self, stride: int | None = None, dilate: int | None = None) -> Windows:
        """How clips are cut, `stride` and `dilate` in frames; without them, the configuration's."""
        c = self.config
        return Windows(c.window, stride or c.stride, dilate or c.dilate)

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        levels: str = "video",
        stride: int | None = None,
        dilate: int | None = None,
        tokens: bool = False,
        capacity: Capacity | None = None,
        only: Tensor | None = None,
    ) -> HiTRSOutput:
        """Encodes a ragged batch.

        Args:
            frames: `[F, J, C]`, the sequences one after another, as the encoder's stream has them (see `prepare`), in
                the model's dtype; rows past `sum(lengths)` are padding and may hold anything finite.
            lengths: `[B]` integers, frames of each sequence.
            levels: "video" runs all three levels; "clip" and "frame" leave the upper ones out.
            stride: frames from one clip to the next, instead of the configuration's.
            dilate: frames from one frame of a clip to the next, instead of the configuration's.
            tokens: also gives every token of the last clip and video layers, which otherwise give CLS alone.
            capacity: fixed sizes, for compiled callers; without it they are read off `lengths`, which waits for the
                device. With it `clip` and `clip_tokens` have `capacity.clips` rows, padded at the end.
            only: `[N]` int64, for levels="clip": the clips that are computed, by their numbers in the batch; `clip` and
                `clip_tokens` then have N rows.

        Raises ValueError for a wrong shape or level, for `only` at another level, and for more than `config.max_clips`
        clips in one sequence.
        """
        self._check(frames, levels)
        if only is not None and levels != "clip":
            raise ValueError(f'only some clips are computed at levels="clip", not {levels!r}')
        windows = self.windows(stride, dilate)
        frame_tokens = self.frames(frames)
        if levels == "frame":
            return HiTRSOutput(frame_tokens[:-1])
        counts = clip_counts(lengths, windows)
        if capacity is None:
            capacity = Capacity(int(counts.sum()), max(int(counts.max()), 1))
        index = clip_frames(lengths, windows, capacity.clips, zero_row=frames.shape[0])
        index = index if only is None else index.index_select(0, only)
        clip, clip_tokens = self.clips(frame_tokens, index, tokens)
        if levels == "clip":
            return HiTRSOutput(frame_tokens[:-1], clip, counts, None, clip_tokens)
        starts = offsets_of(counts)[:-1]
        video, video_tokens = self.videos(clip, starts, counts, capacity.longest, tokens)
        return HiTRSOutput(frame_tokens[:-1], clip, counts, video, clip_tokens, video_tokens)

    def _check(self, frames: Tensor, levels: str) -> None:
        c = self.config
        if levels not in LEVELS:
            raise ValueError(f"levels is {levels!r}, not one of {', '.join(LEVELS)}")
        if frames.ndim != 3 or frames.shape[1:] != (c.joints, c.channels):
            raise ValueError(
                f"frames have shape {tuple(frames.shape)}; this encoder (layout {c.layout.name!r}) "
                f"takes [frames, {c.joints} joints, {c.channels} coordinates]"
            )

    def frames(self, frames: Tensor) -> Tensor:
        """F-TRS (the paper's equations 1 to 3): frames `[F, J, C]` to tokens `[F + 1, J, D1]`.

        The last row is the zero frame that pads sequences.
        """
        zero = frames.new_zeros(1, *frames.shape[1:])
        return self.frame_tokens(torch.cat([frames, zero]))

    def frame_tokens(self, frames: Tensor) -> Tensor:
        """F-TRS of these frames alone: `[F, J, C]` to tokens `[F, J, D1]`."""
        linear, _, *norm = self.joint_embedding
        normalise = (norm[0].weight, norm[0].bias, norm[0].eps) if norm else ()
        # Under autocast the tokens are in its dtype from here on: float32 ones would double the largest tensors.
        x = joint_embedding(
            frames, linear.weight, linear.bias, self.joint_position, *normalise,
            dtype=operand_dtype(frames.device, linear.weight), impl=self.impl,
        )  # fmt: skip
        for layer in self.frame_layers:
            x = layer(x, self._attend_frames)
        return x

    def _attend_frames(self, qkv: QKV) -> Tensor:
        if isinstance(qkv, Tensor):
            return frame_attention_packed(qkv, self.impl)
        return frame_attention(*qkv, self.impl)

    def _attend_clips(self, qkv: QKV) -> Tensor:
        c = self.config
        if isinstance(qkv, Tensor):
            return clip_attention_packed(qkv, c.joints, c.self_visible, self.impl)
        return clip_attention(*qkv, c.joints, c.self_visible, self.impl)

    def clips(self, frame_tokens: Tensor, index: Tensor, tokens: bool = False) -> tuple[Tensor, Tensor | None]:
        """C-TRS: tokens `[F + 1, J, D1]` and each clip's frames `[K, w]` to CLS `[K, D2]` (and `[K, w * J, D2]`).

        Joints of one frame do not see each other (the paper's equation 4). `index` is int64, F being the zero frame.
        """
        c = self.config
        clips = index.shape[0]
        # Once per frame and then gathered, not once per clip.
        mapped = self.clip_embedding(frame_tokens).flatten(1).index_select(0, index.flatten())
        x = mapped.view(clips, c.window * c.joints, -1) + self.clip_position.flatten(0, 1).to(mapped.dtype)
        x = torch.cat([x, self.clip_cls.to(mapped.dtype).expand(clips, 1, -1)], 1)
        for layer in self.clip_layers[:-1]:
            x = layer(x, self._attend_clips)
        last: Layer = self.clip_layers[-1]  # type: ignore[assignment]
        if tokens:
            x = last(x, self._attend_clips)
            return x[:, -1], x[:, :-1]
        return last.pooled(x[:, -1], x), None

    def videos(
        self, clips: Tensor, starts: Tensor, counts: Tensor, longest: int, tokens: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """V-TRS: the clips of sequence b are rows `starts[b] : starts[b] + counts[b]` of `clips` `[R, D2]`.

        Gives CLS `[B, D3]` (and `[R, D3]`). `starts` and `counts` are `[B]` int64; `starts` ascend, `counts` are at
        most `longest`. Raises ValueError if that is more than `config.max_clips`.
        """
        if longest > self.config.max_clips:
            raise ValueError(
                f"a sequence has {longest} clips, and the video level has positions for {self.config.max_clips}: "
                'cut it (embed(..., long="split") does), or stop at levels="clip"'
            )
        rows = clips.shape[0]
        slots = slots_of(starts, counts, rows, longest)
        position = self.video_position.index_select(0, slots.position)
        cls = self.video_cls.expand(starts.shape[0], -1)
        x = torch.cat([self.video_embedding(clips) + position, cls])
        attend = _SlotAttention(slots)
        for layer in self.video_layers[:-1]:
            x = layer(x, attend)
        last: Layer = self.video_layers[-1]  # type: ignore[assignment]
        if tokens:
            x = last(x, attend)
            return x[rows:], x[:rows]
        grid = x.index_select(0, slots.row).view(*slots.visible.shape, -1)
        return last.pooled(x[rows:], grid, slots.visible), None

    def prepare(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Coordinates `[F, J, C]` (metres) to what this encoder was trained on: centred, turned, its stream.

        `lengths` `[B]` int64: frames of each sequence. Centring moves a sequence's first hip that is there to the
        origin, `in_place` each frame's own above or below it; joints that are missing (zeros) stay zeros. Bones are
        x[child] - x[parent], motion is x[t] - x[t-1] (the paper's section 4.4; the authors' definitions).
        """
        rows = rows_of(lengths, frames.shape[0])
        c = self.config
        if c.center:
            frames = centre_on_hip(frames, rows.sequence, len(lengths), c.layout, c.align, c.in_place)
        return stream_of(frames, rows.position == 0, c.layout, c.stream)

    @torch.inference_mode()
    def embed(self, sequences: Sequence[np.ndarray | Tensor], long: str = "error") -> Tensor:
        """Video embeddings `[B, D3]` of sequences `[T, J, C]` of coordinates in metres, each of any length.

        Runs without dropout and gradients, in pieces of bounded memory, on the model's device and in its dtype; calls
        `prepare` itself. A sequence of more than `config.max_clips` clips is an error, or with `long="split"` is cut
        into pieces of equal length whose embeddings are averaged.

        Raises ValueError for an empty sequence, a wrong shape, or one that is too long.
        """
        if long not in ("error", "split"):
            raise ValueError(f'long is {long!r}, not "error" or "split"')
        parameter = self.clip_cls
        pieces, owner = self._pieces(sequences, long)
        training = self.training
        self.eval()
        try:
            embeddings = [
                self._embed([pieces[i].to(parameter) for i in group]) for group in groups_of(pieces, EMBED_FRAMES)
            ]
        finally:
            self.train(training)
        total = parameter.new_zeros(len(sequences), self.config.widths[2])
        if not embeddings:
            return total
        owners = torch.tensor(owner, device=parameter.device)
        total.index_add_(0, owners, torch.cat(embeddings))
        return total / owners.bincount(minlength=len(sequences))[:, None]

    def _pieces(self, sequences: Sequence[np.ndarray | Tensor], long: str) -> tuple[list[Tensor], list[int]]:
        """The sequences as tensors, and which sequence each piece belongs to.

        Cut only where asked; otherwise a sequence that is too long meets the video level's error.
        """
        most = longest_within(self.config.max_clips, self.windows())
        pieces: list[Tensor] = []
        owner: list[int] = []
        for i, sequence in enumerate(sequences):
            frames = torch.as_tensor(sequence)
            if frames.ndim != 3 or len(frames) == 0:
                raise ValueError(
                    f"sequence {i} has shape {tuple(frames.shape)}; it must be [frames, joints, coordinates]"
                )
            self._check(frames, "video")
            cut = frames.tensor_split(-(-len(frames) // most)) if long == "split" else (frames,)
            pieces += cut
            owner += [i] * len(cut)
        return pieces, owner

    def _embed(self, sequences: list[Tensor]) -> Tensor:
        frames = torch.cat(sequences)
        lengths = torch.tensor([len(s) for s in sequences], device=frames.device)
        video = self(self.prepare(frames, lengths), lengths).video
        assert video is not None
        return video


class _SlotAttention:
    """Attention among the clips of each sequence: packed rows are laid out in a padded grid and taken back."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots

    def __call__(self, qkv: QKV) -> Tensor:
        slots = self.slots
        parts = qkv.unbind(-3) if isinstance(qkv, Tensor) else qkv
        grid = [t.index_select(0, slots.row).unflatten(0, slots.visible.shape) for t in parts]
        out = masked_attention(grid[0], grid[1], grid[2], slots.visible[:, None, None])
        return out.flatten(0, 1).index_select(0, slots.slot)

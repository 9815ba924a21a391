"""Hi-TRS behind other codebases' calling conventions: the Hi-TRS authors', pyskl's and mmaction2's, ST-GCN's.

These pad every sample to the longest one and absent bodies with zeros. Inside, each frame that is not zero goes through
F-TRS once, each clip that holds one goes through C-TRS once, and one zero frame and one zero clip stand for all others;
what comes out is what the dense model gives for the padded input (exact with dropout off).

How many frames and clips those are is read off the input, which waits for the device. `sizes` fixes them instead:
nothing waits, and `torch.compile(fullgraph=True)` takes the module. Where they are too small, the output is NaN for
every sample with a frame that is not zero.

Shape legend: N samples, M bodies, T frames, J joints, C coordinates (V and C in the other codebases' words), S = N * M
sequences, w frames of a clip, K clips of a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .clips import clip_count, clip_counts, clip_frames
from .encoder import LEVELS, HiTRS
from .heads import Recognizer
from .padded import Padded, Sizes, checked, extent_of, plan_of, require
from .ragged import offsets_of, rows_of
from .skeleton import is_present

__all__ = ["HiTRSRecognition", "PysklBackbone", "STGCNRecognition", "Sizes"]


class HiTRSRecognition(nn.Module):
    """A `Recognizer` called as the Hi-TRS authors call their recognition model.

    Whether an absent body counts is the recogniser's `bodies` (2, as `load_authors_checkpoint` sets it: it does).

    Args:
        recognizer: the model that is called.
        sizes: fixed amounts of frames and clips (see above); without them they are read off the input.
    """

    def __init__(self, recognizer: Recognizer, sizes: Sizes | None = None) -> None:
        super().__init__()
        self.recognizer = recognizer
        self.sizes = checked(sizes)

    def forward(self, x: Tensor, w_pad_mask: Tensor) -> Tensor:
        """x `[N, K, w, M, J, C]`, clips cut already and padded, to logits `[N, classes]`.

        `w_pad_mask` `[N, M, K + 1]`: 0 for a clip that is there and for the last column, CLS; else padding.
        Raises ValueError for other shapes and, without `sizes`, where padding stands before a clip (with `sizes` the
        logits are then NaN).
        """
        encoder = self.recognizer.encoder
        c = encoder.config
        if x.ndim != 6 or x.shape[2] != c.window or x.shape[4:] != (c.joints, c.channels):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; this model takes [samples, clips, {c.window} frames, bodies, "
                f"{c.joints} joints, {c.channels} coordinates]"
            )
        n, k, w, m = x.shape[:4]
        if w_pad_mask.numel() != n * m * (k + 1):
            raise ValueError(f"w_pad_mask has shape {tuple(w_pad_mask.shape)}, not {(n, m, k + 1)}, as x has it")
        padded = w_pad_mask.reshape(n * m, k + 1) != 0
        counts = (~padded[:, :k]).sum(1)
        column = torch.arange(k + 1, device=x.device)
        ordered = (padded == ((column >= counts[:, None]) & (column < k))).all()
        require(ordered, self.sizes, "w_pad_mask masks a clip that others follow, or CLS; padding must come last")

        total, longest = extent_of(counts, k, self.sizes)
        clip = rows_of(counts, total)
        place = torch.arange(n * k * w * m, device=x.device).view(n, k, w, m).permute(0, 3, 1, 2).reshape(-1, w)
        index = place.index_select(0, clip.sequence * k + clip.position.clamp(max=k - 1))
        rows = x.flatten(0, 3)
        present = is_present(rows).any(-1)
        bodies = present.view(n, k * w, m).any(1).flatten()
        index = torch.where(clip.valid[:, None], index, len(rows))
        batch = Padded(rows, present, index, counts, longest, bodies)
        return _classify(self.recognizer, batch, n, self.sizes, ordered)


class STGCNRecognition(nn.Module):
    """A `Recognizer` called as ST-GCN, CTR-GCN and MAMP call their models.

    Args:
        recognizer: the model that is called.
        sizes: fixed amounts of frames and clips (see above); without them they are read off the input.
    """

    def __init__(self, recognizer: Recognizer, sizes: Sizes | None = None) -> None:
        super().__init__()
        self.recognizer = recognizer
        self.sizes = checked(sizes)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """x `[N, C, T, J, M]`, zero padded at the end, to logits `[N, classes]`.

        `lengths` `[N]` int64: frames of each sample, where its last ones may be zero; without it a sample ends with the
        last frame in which any of its bodies is not zero. Raises ValueError for other shapes and, without `sizes`, for
        lengths beyond T (with `sizes` the logits are then NaN).
        """
        if x.ndim != 5:
            raise ValueError(f"x has shape {tuple(x.shape)}; it must be [samples, coordinates, frames, joints, bodies]")
        batch, fits = _from_time(self.recognizer.encoder, x.permute(0, 4, 2, 3, 1), lengths, self.sizes)
        return _classify(self.recognizer, batch, len(x), self.sizes, fits)


class PysklBackbone(nn.Module):
    """An encoder called as pyskl and mmaction2 call their backbones; the head is theirs.

    level "video" gives `[N, M, D3, 1, 1]`: their GCN heads' pooling then averages the bodies, absent ones too, as the
    Hi-TRS authors do. "clip" gives `[N, M, D2, K, 1]`, with zeros past a sample's last clip. "frame" gives
    `[N, M, D1, T, J]`. Levels above are not run, and their parameters get no gradient.

    Args:
        encoder: the model that is called.
        level: "frame", "clip" or "video"; ValueError for another.
        sizes: fixed amounts of frames and clips (see above); without them they are read off the input.
    """

    def __init__(self, encoder: HiTRS, level: str = "video", sizes: Sizes | None = None) -> None:
        if level not in LEVELS:
            raise ValueError(f"level is {level!r}, not one of {', '.join(LEVELS)}")
        super().__init__()
        self.encoder = encoder
        self.level = level
        self.sizes = checked(sizes)

    def init_weights(self) -> None:
        """pyskl calls this after construction; the encoder has its weights already."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """x `[N, M, T, J, C]`, zero padded at the end, to features as the level has them.

        `lengths` `[N]` and errors as for `STGCNRecognition`.
        """
        if x.ndim != 5:
            raise ValueError(f"x has shape {tuple(x.shape)}; it must be [samples, bodies, frames, joints, coordinates]")
        batch, fits = _from_time(self.encoder, x, lengths, self.sizes)
        plan = plan_of(batch, self.sizes, fits)
        tokens = self.encoder.frames(plan.frames)
        if self.level == "frame":
            return tokens.index_select(0, plan.token[:-1]).view(*x.shape[:4], -1).permute(0, 1, 4, 2, 3)
        clips, _ = self.encoder.clips(tokens, plan.clips)
        clips = clips.index_select(0, plan.clip)
        starts = offsets_of(batch.counts)[:-1]
        if self.level == "video":
            video, _ = self.encoder.videos(clips, starts, batch.counts, batch.longest)
            return video.view(*x.shape[:2], -1, 1, 1)
        column = torch.arange(batch.longest, device=x.device)
        inside = column < batch.counts[:, None]
        row = torch.where(inside, starts[:, None] + column, len(clips)).flatten()
        grid = torch.cat([clips, clips.new_zeros(1, clips.shape[1])]).index_select(0, row)
        return grid.view(*x.shape[:2], batch.longest, -1).transpose(2, 3)[..., None]


def _from_time(encoder: HiTRS, x: Tensor, lengths: Tensor | None, sizes: Sizes | None) -> tuple[Padded, Tensor]:
    """`[N, M, T, J, C]` cut into clips, and whether all `lengths` lie within T."""
    c = encoder.config
    if x.shape[3:] != (c.joints, c.channels):
        raise ValueError(
            f"x has {x.shape[3]} joints and {x.shape[4]} coordinates; this encoder (layout {c.layout.name!r}) "
            f"takes {c.joints} and {c.channels}"
        )
    n, m, t = x.shape[:3]
    frame = torch.arange(t, device=x.device)
    present = is_present(x).any(-1)
    if lengths is None:
        lengths = torch.where(present.any(1), frame + 1, 0).amax(1)
    elif lengths.shape != (n,):
        raise ValueError(f"lengths has shape {tuple(lengths.shape)}, not ({n},): one length for each sample")
    within = ((lengths >= 0) & (lengths <= t)).all()
    require(within, sizes, f"lengths must lie between 0 and the {t} frames of x")
    lengths = lengths.clamp(0, t)  # no row lies outside, even where the output will be NaN
    present = present & (frame < lengths[:, None, None])

    lengths, windows = lengths.repeat_interleave(m, output_size=n * m), encoder.windows()
    counts = clip_counts(lengths, windows)
    total, longest = extent_of(counts, clip_count(t, windows), sizes)
    real = rows_of(lengths, n * m * t)
    # The rows of the padded input, one sequence's real frames after another's, and last the zero frame.
    row = torch.where(real.valid, real.sequence * t + real.position, n * m * t)
    row = torch.cat([row, row.new_full((1,), n * m * t)])
    index = clip_frames(lengths, windows, total, zero_row=n * m * t)
    index = row.index_select(0, index.flatten()).view(index.shape)
    bodies = present.any(2).flatten()
    return Padded(x.reshape(-1, c.joints, c.channels), present.flatten(), index, counts, longest, bodies), within


def _classify(recognizer: Recognizer, batch: Padded, samples: int, sizes: Sizes | None, valid: Tensor) -> Tensor:
    encoder = recognizer.encoder
    plan = plan_of(batch, sizes, valid)
    clips, _ = encoder.clips(encoder.frames(plan.frames), plan.clips)
    starts = offsets_of(batch.counts)[:-1]
    video, _ = encoder.videos(clips.index_select(0, plan.clip), starts, batch.counts, batch.longest)
    sequences = len(batch.counts)
    sample = torch.arange(sequences, device=video.device) // (sequences // samples)
    counted = batch.bodies if recognizer.bodies is None else batch.counts > 0
    return recognizer.classify(video, sample, samples, counted)

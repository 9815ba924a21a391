"""The savings, added to the dense reference one by one, so that a table can show what each brings.

Level 0 is the reference itself. Each level has all savings of the levels below it; the product has them all, and lays
out its projections and indices better besides.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as fn

from hitrs_fast import PretextBatch

from .reference import EncoderLayer, MultiHeadAttention, Reference, Transformer, dense_batch, window_list

LEVELS = (
    "reference",
    "fused attention kernel",
    "ragged frames and clips",
    "one zero frame",
    "one clip call",
    "last layers for CLS alone",
)


class BuildUp(Reference):
    """The reference with the first `level` savings."""

    level = 0

    def set_level(self, level: int) -> BuildUp:
        self.level = level
        for module in self.modules():
            if isinstance(module, MultiHeadAttention):
                module.attend = _fused if level >= 1 else MultiHeadAttention.attend.__get__(module)  # type: ignore
        return self

    def pretrain_ragged(self, batch: PretextBatch) -> dict[str, Tensor]:
        """The losses of a ragged batch without empty sequences, at this level."""
        if self.level < 2:
            return self.pretrain(dense_batch(batch, self.config))
        frames, windows, pairs = self._indices(batch)
        tokens = self.encode_frames(frames)
        real = tokens[: len(batch.frames)] if self.level >= 3 else tokens[self._real_rows(batch)]
        pose = self.pose_loss(self.s_pose_reg(real)[batch.selected], batch.target[batch.selected])
        counts = [len(clips) for clips in windows]
        last = [clips[-1] for clips in windows]
        shown = [clip for clips in windows for clip in clips[:-1]]
        shown_clips, pair_clips, last_clips = self._clips(tokens, [shown, pairs, last])
        clip = self.order_loss(self.c_motion_cls(pair_clips)[batch.pair_valid.repeat(2)])
        order, first = [], 0
        for count in counts:
            order += [row - first for row in batch.order[first : first + count - 1].tolist()]
            first += count
        rows = [n - 1 for n in counts]
        begin = torch.tensor([sum(rows[:b]) for b, n in enumerate(rows) for _ in range(n)])
        permuted = shown_clips[begin + torch.tensor(order)]
        video, other = (self._video(clips, rows) for clips in (shown_clips, permuted))
        ordered = self.order_loss(self.v_motion_cls(torch.cat([video, other])))
        predicted = fn.normalize(self.v_ft_reg(video), dim=-1)
        similarity = predicted @ fn.normalize(last_clips.detach(), dim=-1).T / self.pretext.temperature
        contrast = fn.cross_entropy(similarity, torch.arange(len(rows), device=similarity.device))
        return {"loss": pose + clip + ordered + contrast, "loss_contrast": contrast}

    def _real_rows(self, batch: PretextBatch) -> Tensor:
        """Where the real frames lie among frames padded at each sequence's ends."""
        pad = (self.config.window // 2) * self.config.dilate
        lengths = batch.lengths.tolist()
        return torch.cat([torch.arange(n) + sum(lengths[:b]) + (2 * b + 1) * pad for b, n in enumerate(lengths)])

    def _indices(self, batch: PretextBatch) -> tuple[Tensor, list[list[list[int]]], list[list[int]]]:
        """All frames that F-TRS encodes, and rows among them: each sequence's clips, and the clip pairs."""
        c = self.config
        pad = (c.window // 2) * c.dilate
        total = len(batch.frames)
        frames = batch.frames.new_zeros(
            total + (1 if self.level >= 3 else 2 * pad * len(batch.lengths)), c.joints, c.channels
        )
        place = torch.arange(total) if self.level >= 3 else self._real_rows(batch)
        frames[place] = batch.frames
        zero = len(frames) - 1
        where = [*place.tolist(), zero]
        windows, first = [], 0
        for length in batch.lengths.tolist():
            clips = window_list(length, c.window, c.stride, c.dilate)
            windows.append(
                [[where[first + f - pad] if 0 <= f - pad < length else zero for f in clip] for clip in clips]
            )
            first += length
        return frames, windows, [[where[row] for row in clip] for clip in batch.pair.tolist()]

    def _clips(self, tokens: Tensor, groups: list[list[list[int]]]) -> list[Tensor]:
        if self.level < 4:
            return [self.encode_clips(tokens[torch.tensor(group)]) for group in groups]
        together = self.encode_clips(tokens[torch.tensor([clip for group in groups for clip in group])])
        return list(together.split([len(group) for group in groups]))

    def _video(self, clips: Tensor, counts: list[int]) -> Tensor:
        parts = [fn.pad(part, (0, 0, 0, max(counts) - len(part))) for part in clips.split(counts)]
        return self.encode_videos(torch.stack(parts), counts)

    def encode_clips(self, clips: Tensor) -> Tensor:
        if self.level < 5:
            return super().encode_clips(clips)
        x = (self.c_input_map(clips) + self.c_pe.pe).flatten(1, 2)
        x = torch.cat([x, self.clip_fuse_token.expand(len(x), 1, -1)], 1)
        return _cls_of(self.c_enc, x, self.clip_mask(), None)

    def encode_videos(self, clips: Tensor, counts: list[int]) -> Tensor:
        if self.level < 5:
            return super().encode_videos(clips, counts)
        padded = torch.tensor([[k >= n for k in range(clips.shape[1])] + [False] for n in counts], device=clips.device)
        x = self.v_input_map(clips) + self.v_pe.pe[: clips.shape[1]]
        x = torch.cat([x, self.video_fuse_token.expand(len(x), 1, -1)], 1)
        return _cls_of(self.v_enc, x, padded[:, None, None], padded)


def _fused(q: Tensor, k: Tensor, v: Tensor, blocked: Tensor | None) -> Tensor:
    return fn.scaled_dot_product_attention(q, k, v, attn_mask=None if blocked is None else ~blocked)


def _cls_of(transformer: Transformer, x: Tensor, blocked: Tensor, padded: Tensor | None) -> Tensor:
    """The last token's output; the last layer computes nothing else. `padded` `[N, S]`: keys to leave out there."""
    *layers, last = transformer.layer_stack
    for layer in layers:
        x = layer(x, blocked)
    assert isinstance(last, EncoderLayer)
    attention = last.slf_attn
    normed = last.self_attn_norm(x)
    query = attention.w_qs(normed[:, -1]).unflatten(-1, (attention.heads, attention.head_dim))
    w_k, w_v = (w.weight.unflatten(0, (attention.heads, attention.head_dim)) for w in (attention.w_ks, attention.w_vs))
    scores = torch.einsum("nhd,hde,nse->nhs", query, w_k, normed) / attention.head_dim**0.5
    if padded is not None:
        scores = scores.masked_fill(padded[:, None], float("-inf"))
    out = torch.einsum("nhs,nse,hde->nhd", scores.softmax(-1), normed, w_v)
    cls = x[:, -1] + attention.fc(out.flatten(1))
    return cls + last.pos_ffn(last.pff_norm(cls))

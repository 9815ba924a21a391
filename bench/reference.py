"""The dense Hi-TRS: zero-padded batches, one clip-transformer call per task, every output of every layer.

It follows the authors' code in what it computes and in its parameter names, so their weights load as they are, and
it is written as one would on first reading: the oracle of the tests and the baseline of the benchmarks.

Shape legend: B sequences (or samples), T padded frames, J joints, C coordinates, K clips, w frames of a clip,
S tokens, E width of a token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from hitrs_fast import HiTRSConfig, PretextBatch, PretextConfig


def window_list(frames: int, window: int, stride: int, dilate: int) -> list[list[int]]:
    """Padded frame numbers of each clip of a sequence of `frames` real frames."""
    pad = (window // 2) * dilate
    padded = frames + 2 * pad
    clips: list[list[int]] = []
    start = 0
    while True:
        clips.append([min(start + i * dilate, padded - 1) for i in range(window)])
        covered = start + (window - 1) * dilate >= padded - pad - 1
        start += stride
        if covered and start + (window - 1) * dilate > padded - 1:
            return clips


class MultiHeadAttention(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.w_qs = nn.Linear(width, heads * head_dim, bias=False)
        self.w_ks = nn.Linear(width, heads * head_dim, bias=False)
        self.w_vs = nn.Linear(width, heads * head_dim, bias=False)
        self.fc = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, x: Tensor, blocked: Tensor | None) -> Tensor:
        q, k, v = (
            w(x).view(*x.shape[:2], self.heads, self.head_dim).transpose(1, 2)
            for w in (self.w_qs, self.w_ks, self.w_vs)
        )
        return self.fc(self.attend(q, k, v, blocked).transpose(1, 2).flatten(2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, blocked: Tensor | None) -> Tensor:
        scores = q @ k.transpose(2, 3) / self.head_dim**0.5
        if blocked is not None:
            scores = scores.masked_fill(blocked, -1e9)
        return scores.softmax(-1) @ v


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(fn.gelu(self.w_1(x)))


class EncoderLayer(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(width)
        self.slf_attn = MultiHeadAttention(width, heads, head_dim)
        self.pff_norm = nn.LayerNorm(width)
        self.pos_ffn = FeedForward(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, blocked: Tensor | None) -> Tensor:
        x = x + self.dropout(self.slf_attn(self.self_attn_norm(x), blocked))
        return x + self.dropout(self.pos_ffn(self.pff_norm(x)))


class Transformer(nn.Module):
    def __init__(self, config: HiTRSConfig, level: int) -> None:
        super().__init__()
        c = config
        sizes = (c.widths[level], c.ffn[level], c.heads, c.head_dim, c.dropout)
        self.layer_stack = nn.ModuleList(EncoderLayer(*sizes) for _ in range(c.layers))

    def forward(self, x: Tensor, blocked: Tensor | None = None) -> Tensor:
        for layer in self.layer_stack:
            x = layer(x, blocked)
        return x


class Position(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.pe = nn.Parameter(torch.randn(shape) * 0.02)


class DensePretextBatch(NamedTuple):
    masked: Tensor  # [B, T, J, C] zero padded
    clean: Tensor  # [B, T, J, C]
    selected: list[int]  # joints that the spatial task asks for, among B * T * J
    pair: list[list[list[int]]]  # [B][2][w] padded frame numbers: a clip, and it with frames swapped
    pair_valid: list[int]  # sequences that the clip task counts
    windows: list[list[list[int]]]  # [B][K_b][w]
    order: list[list[int]]  # [B][K_b - 1]


class Reference(nn.Module):
    def __init__(self, config: HiTRSConfig, pretext: PretextConfig | None = None, classes: int = 60) -> None:
        super().__init__()
        c = self.config = config
        self.pretext = pretext or PretextConfig()
        frame, clip, video = c.widths
        embedding: list[nn.Module] = [nn.Linear(c.channels, frame), nn.GELU()]
        self.s_input_map = nn.Sequential(*embedding, *([nn.LayerNorm(frame)] if c.input_norm else []))
        self.s_pe = Position(c.joints, frame)
        self.s_enc = Transformer(c, 0)
        self.s_pose_reg = nn.Linear(frame, c.channels)
        self.c_input_map = nn.Linear(frame, clip)
        self.c_pe = Position(c.window, c.joints, clip)
        self.clip_fuse_token = nn.Parameter(torch.rand(1, 1, clip))
        self.c_enc = Transformer(c, 1)
        self.c_motion_cls = nn.Linear(clip, 2)
        self.v_input_map = nn.Linear(clip, video)
        self.v_pe = Position(c.max_clips, video)
        self.video_fuse_token = nn.Parameter(torch.rand(1, 1, video))
        self.v_enc = Transformer(c, 2)
        self.v_motion_cls = nn.Linear(video, 2)
        self.v_ft_reg = nn.Linear(video, clip)
        self.v_cls = nn.Linear(video, classes)

    def clip_mask(self) -> Tensor:
        """[S, S] bool, true where a token may not look: at the other joints of its frame (and itself, in the paper)."""
        c = self.config
        blocked = torch.zeros(c.clip_tokens, c.clip_tokens, dtype=torch.bool, device=self.clip_fuse_token.device)
        for start in range(0, c.clip_tokens - 1, c.joints):
            blocked[start : start + c.joints, start : start + c.joints] = True
        if c.self_visible:
            blocked.fill_diagonal_(False)
        return blocked

    def encode_frames(self, frames: Tensor) -> Tensor:
        """[N, J, C] to [N, J, E]."""
        return self.s_enc(self.s_input_map(frames) + self.s_pe.pe)

    def encode_clips(self, clips: Tensor) -> Tensor:
        """Frame tokens [N, w, J, E] to [N, E']."""
        x = (self.c_input_map(clips) + self.c_pe.pe).flatten(1, 2)
        x = torch.cat([x, self.clip_fuse_token.expand(len(x), 1, -1)], 1)
        return self.c_enc(x, self.clip_mask())[:, -1]

    def encode_videos(self, clips: Tensor, counts: list[int]) -> Tensor:
        """[B, K, E] padded, and how many clips each sequence has, to [B, E']."""
        padded = torch.tensor([[k >= n for k in range(clips.shape[1])] + [False] for n in counts], device=clips.device)
        x = self.v_input_map(clips) + self.v_pe.pe[: clips.shape[1]]
        x = torch.cat([x, self.video_fuse_token.expand(len(x), 1, -1)], 1)
        return self.v_enc(x, padded[:, None, None])[:, -1]

    def clips_of(self, frame_tokens: Tensor, index: list[list[list[int]]]) -> Tensor:
        """Tokens [B, T, J, E] at each sequence's clips, short lists filled with their last: [B, K, w, J, E]."""
        most = max(len(clips) for clips in index)
        return torch.stack(
            [
                x[torch.tensor(clips + clips[-1:] * (most - len(clips)))]
                for x, clips in zip(frame_tokens, index, strict=True)
            ]
        )

    def pretrain(self, batch: DensePretextBatch) -> dict[str, Tensor]:
        sequences = len(batch.masked)
        tokens = self.encode_frames(batch.masked.flatten(0, 1)).unflatten(0, batch.masked.shape[:2])
        selected = torch.tensor(batch.selected)
        pose = self.pose_loss(self.s_pose_reg(tokens).flatten(0, 2)[selected], batch.clean.flatten(0, 2)[selected])

        pairs = self.encode_clips(self.clips_of(tokens, batch.pair).transpose(0, 1).flatten(0, 1))
        valid = torch.tensor(batch.pair_valid)
        clip = self.order_loss(self.c_motion_cls(pairs)[torch.cat([valid, sequences + valid])])

        shown = [clips[:-1] for clips in batch.windows]
        counts = [len(clips) for clips in shown]
        clips = self.clips_of(tokens, shown)
        clips = self.encode_clips(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        fill = [order + list(range(len(order), clips.shape[1])) for order in batch.order]
        permuted = torch.stack([x[torch.tensor(order)] for x, order in zip(clips, fill, strict=True)])
        video = self.encode_videos(clips, counts)
        order = self.order_loss(self.v_motion_cls(torch.cat([video, self.encode_videos(permuted, counts)])))

        last = self.encode_clips(self.clips_of(tokens, [clips[-1:] for clips in batch.windows])[:, 0]).detach()
        predicted = fn.normalize(self.v_ft_reg(video), dim=-1)
        similarity = predicted @ fn.normalize(last, dim=-1).T / self.pretext.temperature
        contrast = fn.cross_entropy(similarity, torch.arange(sequences, device=similarity.device))
        losses = {"loss_spatial": pose, "loss_clip": clip, "loss_video": order, "loss_contrast": contrast}
        return {"loss": pose + clip + order + contrast} | losses

    def pose_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        if self.pretext.pose_loss == "l1":
            return (predicted - target).abs().sum(-1).mean()
        return fn.smooth_l1_loss(10 * predicted, 10 * target)

    def order_loss(self, logits: Tensor) -> Tensor:
        """The first half of the rows are originals (class 1), the second half permuted (class 0)."""
        labels = torch.arange(len(logits), device=logits.device) < len(logits) // 2
        loss = fn.cross_entropy(logits, labels.long())
        return 2 * loss if self.pretext.order_loss == "sum" else loss

    def recognize(self, bodies: list[Tensor], divide_by: int = 2) -> Tensor:
        """Recordings, each `[bodies, T_i, J, C]` (an absent body is zeros), to logits `[N, classes]`."""
        return self.v_cls(self.embed(bodies).sum(1) / divide_by)

    def embed(self, bodies: list[Tensor]) -> Tensor:
        """Recordings, each `[bodies, T_i, J, C]`, to video embeddings `[N, bodies, E]`.

        As the authors do, clips are cut first, padded to the longest recording, and every clip's frames are encoded.
        """
        video = self.embed_clips(*self.cut(bodies))
        return video.unflatten(0, (len(bodies), len(video) // len(bodies)))

    def embed_clips(self, clips: Tensor, counts: list[int]) -> Tensor:
        """Clips [B, K, w, J, C], padded, and how many each sequence has, to video embeddings [B, E]."""
        tokens = self.encode_frames(clips.flatten(0, 2)).unflatten(0, clips.shape[:3])
        embedded = self.encode_clips(tokens.flatten(0, 1)).unflatten(0, clips.shape[:2])
        return self.encode_videos(embedded, counts)

    def detect(self, frames: Tensor, classifier: nn.Module, dilate: int) -> Tensor:
        """One recording [T, J, C] to [T, classes]: a clip centred on each frame, every clip's frames encoded anew."""
        c = self.config
        pad = (c.window // 2) * dilate
        windows = torch.tensor(window_list(len(frames), c.window, 1, dilate))
        clips = fn.pad(frames, (0, 0, 0, 0, pad, pad))[windows]
        tokens = self.encode_frames(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        return classifier(self.encode_clips(tokens))

    def cut(self, bodies: list[Tensor]) -> tuple[Tensor, list[int]]:
        """Clips [N * bodies, K, w, J, C], zero padded to the largest K, and how many each body has."""
        c = self.config
        pad = (c.window // 2) * c.dilate
        lists = [window_list(x.shape[1], c.window, c.stride, c.dilate) for x in bodies]
        most = max(len(windows) for windows in lists)
        cut = []
        for x, windows in zip(bodies, lists, strict=True):
            padded = fn.pad(x, (0, 0, 0, 0, pad, pad))[:, torch.tensor(windows)]
            cut.append(fn.pad(padded, (0, 0, 0, 0, 0, 0, 0, most - len(windows))))
        return torch.cat(cut), [len(w) for w, x in zip(lists, bodies, strict=True) for _ in range(len(x))]


def dense_batch(batch: PretextBatch, config: HiTRSConfig) -> DensePretextBatch:
    """A ragged batch, without empty sequences, as the dense model reads it: padded, with indices of padded frames."""
    c = config
    pad = (c.window // 2) * c.dilate
    lengths = batch.lengths.tolist()
    offsets = [sum(lengths[:b]) for b in range(len(lengths))]
    total = max(lengths) + 2 * pad

    def padded(x: Tensor) -> Tensor:
        rows = [x[o : o + n] for o, n in zip(offsets, lengths, strict=True)]
        return torch.stack(
            [
                torch.cat([r.new_zeros(pad, *r.shape[1:]), r, r.new_zeros(total - pad - len(r), *r.shape[1:])])
                for r in rows
            ]
        )

    def in_sequence(clip: Tensor, b: int) -> list[int]:
        # Row 0 of a padded sequence is a zero frame, as good as any other.
        inside = [offsets[b] <= row < offsets[b] + lengths[b] for row in clip.tolist()]
        return [row - offsets[b] + pad if real else 0 for row, real in zip(clip.tolist(), inside, strict=True)]

    windows = [window_list(n, c.window, c.stride, c.dilate) for n in lengths]
    order, first = [], 0
    for clips in windows:
        order.append([row - first for row in batch.order[first : first + len(clips) - 1].tolist()])
        first += len(clips)
    sequences = len(lengths)
    pair = [[in_sequence(batch.pair[b], b), in_sequence(batch.pair[sequences + b], b)] for b in range(sequences)]
    return DensePretextBatch(
        padded(batch.frames),
        padded(batch.target),
        padded(batch.selected).flatten().nonzero()[:, 0].tolist(),
        pair,
        batch.pair_valid.nonzero()[:, 0].tolist(),
        windows,
        order,
    )

"""What a pre-training step has to move and to multiply on a GPU, pass by pass: the least that the design allows.

A *pass* reads its tensors from memory once and writes its results once: a kernel of ours, a matrix product, or a chain
of elementwise operations that torch.compile makes one of. Bytes and operations are a token's. All is bfloat16 but the
attention's log-sum-exp and sums; weights are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch

import hitrs_fast as hf

from . import cases, paper_work
from .offline import Gpu
from .paper_work import CLIP, HEAD_DIM, HEADS, HIDDEN, JOINTS, WIDTHS
from .reference import EncoderLayer
from .traffic import eager, launched

HALF = torch.bfloat16
INNER = HEADS * HEAD_DIM
MANY = 4096  # tokens that make weights negligible


class Pass(NamedTuple):
    name: str
    bytes: float  # a token
    flops: float = 0.0

    def seconds(self, gpu: Gpu) -> float:
        """Bound by memory or by the matrix units, whichever takes longer."""
        return max(self.bytes / gpu.bandwidth, self.flops / gpu.peak16)


@cache
def kernel_bytes(kind: str) -> dict[str, float]:
    """Bytes a token of each kernel of a kind."""
    works: dict[str, tuple[Callable[..., None], str, int]] = {
        "clips": (paper_work.attention, "clips", CLIP),
        "frames": (paper_work.attention, "frames", JOINTS),
        "frame mlp": (paper_work.mlp, "frame", 1),
        "clip mlp": (paper_work.mlp, "clip", 1),
        "pool": (paper_work.pool, "clip", CLIP),
    }
    work, what, tokens = works[kind]
    found = launched(lambda groups: work(what, HALF, groups=groups), 640 // min(tokens, 160))
    return {name: size / tokens for name, size in found.items()}


def attention_flops(kind: str) -> tuple[float, float]:
    """Operations a token of the forward's two products and of the backward's seven."""
    product = 2 * (CLIP if kind == "clips" else JOINTS) * INNER
    return 2 * product, 7 * product


def layer(level: str) -> list[Pass]:
    """A whole layer, forward and backward; level "frame" or "clip"."""
    width, hidden = WIDTHS[level], HIDDEN[level]
    attend, mlp = kernel_bytes(f"{level}s"), kernel_bytes(f"{level} mlp")
    forward, backward = attention_flops(f"{level}s")
    e, qkv, inner = 2 * width, 6 * INNER, 2 * INNER  # bytes of a token's vectors
    return [
        Pass("LayerNorm", 2 * e),
        Pass("product: queries, keys, values", e + qkv, 6 * width * INNER),
        Pass("kernel: attention", attend["attention_forward"], forward),
        Pass("product: output", inner + e, 2 * width * INNER),
        Pass("dropout and residual", 3 * e),
        Pass("kernel: feed-forward block", mlp["mlp_forward"], 4 * width * hidden),
        Pass("kernel: feed-forward block, backward", mlp["mlp_backward"], 6 * width * hidden),
        Pass("products: feed-forward weights", 2 * e + 4 * hidden, 4 * width * hidden),
        Pass("dropout, backward", 2 * e),
        Pass("products: output, backward", 2 * (inner + e), 4 * width * INNER),
        Pass("kernel: attention, backward", attend["attention_backward"], backward),
        Pass("products: queries, keys, values, backward", 2 * (qkv + e), 12 * width * INNER),
        Pass("LayerNorm and residual, backward", 4 * e),
    ]


def pooled() -> list[Pass]:
    """The clip level's last layer, which answers CLS alone."""
    found = kernel_bytes("pool")
    product = 2 * WIDTHS["clip"] * HEADS
    return [
        Pass("kernel: one-query attention", found["pooled_forward"], 2 * product),
        Pass("kernel: one-query attention, backward", found["pooled_backward"], 5 * product),
    ]


def into_clips() -> list[Pass]:
    """Positions added to the gathered frames and CLS set beside them, forward and backward; a clip's token."""
    e = 2 * WIDTHS["clip"]
    return [Pass("frames into clips", 2 * e), Pass("frames into clips, backward", 2 * e)]


def into_tokens() -> list[Pass]:
    """The joints' embedding and the map to the clip level's width; a frame's token."""
    found = launched(lambda groups: paper_work.embedding(groups=groups), 640)
    e, wide = 2 * WIDTHS["frame"], 2 * WIDTHS["clip"]
    return [
        *(Pass(f"kernel: joint embedding, {k.split('_')[1]}", v / JOINTS) for k, v in found.items()),
        Pass("product: to the clip level", e + wide, 2 * WIDTHS["frame"] * WIDTHS["clip"]),
        Pass("products: to the clip level, backward", 2 * (e + wide), 4 * WIDTHS["frame"] * WIDTHS["clip"]),
    ]


class Step(NamedTuple):
    """The passes of a pre-training step, and how many tokens go through each group of them."""

    groups: list[tuple[str, int, list[Pass]]]

    def seconds(self, gpu: Gpu) -> float:
        return sum(tokens * p.seconds(gpu) for _, tokens, passes in self.groups for p in passes)

    def bytes(self) -> float:
        return sum(tokens * p.bytes for _, tokens, passes in self.groups for p in passes)


def step(sequences: int = 256) -> Step:
    """Two layers a level, NTU-like lengths. The video level, under 1 % of the tokens, is left out."""
    frame_tokens, clip_tokens = tokens_of(sequences)
    frames = [("joints into tokens", frame_tokens, into_tokens())]
    frames += [(f"frame layer {i}", frame_tokens, layer("frame")) for i in (1, 2)]
    clips = [
        ("frames into clips", clip_tokens, into_clips()),
        ("clip layer 1", clip_tokens, layer("clip")),
        ("clip layer 2, CLS alone", clip_tokens, pooled()),
    ]
    return Step(frames + clips)


@cache
def tokens_of(sequences: int) -> tuple[int, int]:
    """Tokens of the frame level and of the clip level: clips of the windows, and the two of each sequence's pair."""
    lengths = torch.from_numpy(cases.ntu_like(sequences))
    windows = hf.HiTRS(hf.HiTRSConfig.small()).windows()
    clips = int(hf.clips.clip_counts(lengths, windows).sum()) + 2 * sequences
    return int(lengths.sum() + 1) * JOINTS, clips * CLIP


def dense_layer(level: str) -> tuple[EncoderLayer, int, torch.Tensor | None]:
    """The reference's layer, how many tokens attend together, and its mask."""
    c = hf.HiTRSConfig.paper()
    index, tokens = (0, JOINTS) if level == "frame" else (1, CLIP)
    layer = EncoderLayer(c.widths[index], c.ffn[index], c.heads, c.head_dim, c.dropout)
    return layer, tokens, torch.zeros(tokens, tokens, dtype=torch.bool) if level == "clip" else None


def per_token(function: Callable[..., torch.Tensor], tokens: int, *rest: int, dtype: torch.dtype = HALF) -> float:
    """Bytes a token of a function of `[groups, tokens, *rest]`."""
    count = MANY // tokens
    return eager(function, (count, tokens, *rest), dtype=dtype) / count / tokens


@cache
def eager_layer(level: str) -> float:
    """Bytes a token of the reference's layer in plain torch, attention matrices and all."""
    dense, tokens, blocked = dense_layer(level)
    return per_token(lambda x: dense(x, blocked), tokens, WIDTHS[level])


def eager_attention(level: str) -> float:
    dense, tokens, blocked = dense_layer(level)
    count = MANY // tokens
    shapes = [(count, HEADS, tokens, HEAD_DIM)] * 3
    return eager(lambda q, k, v: dense.slf_attn.attend(q, k, v, blocked), *shapes) / count / tokens


def eager_mlp(level: str) -> float:
    dense, _, _ = dense_layer(level)
    return per_token(lambda x: x + dense.dropout(dense.pos_ffn(dense.pff_norm(x))), 1, WIDTHS[level])


@cache
def eager_parts() -> dict[str, float]:
    """Bytes a token of what each kernel replaces, in plain torch."""
    return {
        "clips": eager_attention("clip"),
        "frames": eager_attention("frame"),
        "clip mlp": eager_mlp("clip"),
        "frame mlp": eager_mlp("frame"),
        "pool": eager_layer("clip"),
    }


def eager_seconds(gpu: Gpu, sequences: int = 256) -> float:
    """The same tokens by plain torch, two whole layers a level: its traffic at the memory's full rate."""
    frame_tokens, clip_tokens = tokens_of(sequences)
    total = 2 * (frame_tokens * eager_layer("frame") + clip_tokens * eager_layer("clip"))
    return total / gpu.bandwidth

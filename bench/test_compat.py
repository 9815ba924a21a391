"""The authors' calling convention: padded clips of two bodies, the second absent in four of five recordings.

Both sides get the same clips; the reference computes all of them, as the authors' model does.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as fn

from hitrs_fast.compat import HiTRSRecognition

from . import cases
from .gate import LENGTHS, same
from .measure import interleaved
from .reference import Reference

PART = 8  # recordings that the reference takes at a time, padded to the whole batch's longest: it must fit the memory


def clips_of(lengths: list[int], reference: Reference, dtype: torch.dtype) -> tuple[Tensor, list[int], Tensor]:
    """Clips `[2 N, K, w, J, C]`, how many each body has, and w_pad_mask `[N, 2, K + 1]`."""
    frames = cases.frames_of(2 * sum(lengths), dtype).split([2 * t for t in lengths])
    bodies = [x.unflatten(0, (2, -1)).clone() for x in frames]
    for number, body in enumerate(bodies):
        if number % 5:
            body[1] = 0
    clips, counts = reference.cut(bodies)
    column, last = torch.arange(clips.shape[1] + 1), clips.shape[1]
    mask = (column >= torch.tensor(counts)[:, None]) & (column < last)
    return clips, counts, mask.unflatten(0, (-1, 2)).to(clips.device)


def as_theirs(clips: Tensor) -> Tensor:
    """To `[N, K, w, 2, J, C]`."""
    return clips.unflatten(0, (-1, 2)).permute(0, 2, 3, 1, 4, 5).contiguous()


def recognize(reference: Reference, clips: Tensor, counts: list[int]) -> Tensor:
    return reference.v_cls(reference.embed_clips(clips, counts).unflatten(0, (-1, 2)).sum(1) / 2)


def gate() -> None:
    """In float64 the losses and gradients agree to 1e-9."""
    reference, product = cases.models(dtype=torch.float64)
    clips, counts, mask = clips_of([int(t) for t in LENGTHS], reference, torch.float64)
    labels = torch.arange(len(LENGTHS), device=clips.device)
    model = cases.recognizer(reference, product)
    ours = fn.cross_entropy(HiTRSRecognition(model)(as_theirs(clips), mask), labels)
    same(reference, model, ours, fn.cross_entropy(recognize(reference, clips, counts), labels))


def test_recognition_of_padded_clips(benchmark, batch_size: int, rounds: int) -> None:
    """Forward and backward."""
    gate()
    reference, product = cases.models()
    model = HiTRSRecognition(cases.recognizer(reference, product))
    clips, counts, mask = clips_of([int(t) for t in cases.ntu_like(batch_size)], reference, torch.float32)
    x, labels = as_theirs(clips), torch.arange(batch_size, device=clips.device) % cases.CLASSES

    def ours() -> float:
        model.zero_grad(set_to_none=True)
        loss = fn.cross_entropy(model(x, w_pad_mask=mask), labels)
        loss.backward()
        return loss.item()

    def theirs() -> float:
        reference.zero_grad(set_to_none=True)
        total = 0.0
        for at in range(0, batch_size, PART):
            rows = slice(2 * at, 2 * (at + PART))
            logits = recognize(reference, clips[rows], counts[rows])
            loss = fn.cross_entropy(logits, labels[at : at + PART], reduction="sum") / batch_size
            loss.backward()
            total += loss.item()
        return total

    assert abs(theirs() / ours() - 1) < 1e-4
    seconds = interleaved({"product": ours, "reference": theirs}, rounds)
    benchmark.extra_info.update(
        seconds=seconds, speedup=seconds["reference"] / seconds["product"], sequences=2 * batch_size
    )
    benchmark.pedantic(ours, rounds=rounds)

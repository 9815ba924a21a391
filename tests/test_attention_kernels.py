"""The attention kernels against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import DEVICES, DTYPES, check, covering, full, name_of, ready
from torch import Tensor

from hitrs_fast.kernels import attention, reference
from hitrs_fast.kernels.attention import clip_attention, clip_attention_packed, frame_attention, frame_attention_packed

JOINTS, WINDOWS, WIDTHS = (5, 17, 20, 25, 33, 38), (3, 5, 7), (16, 32, 64)
CLIP = {"joints": JOINTS, "window": WINDOWS, "width": WIDTHS, "self_visible": (False, True), "dtype": DTYPES}
FRAME = {"joints": (*JOINTS, 70), "frames": (1, 5, 8), "width": (*WIDTHS, 24), "dtype": DTYPES}


def packed(*shape: int, dtype: torch.dtype, device: str) -> Tensor:
    """Random `[*shape]`, three times as wide: scores in which the softmax is neither flat nor one-hot."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)


def clip_case(device: str, joints: int, window: int, width: int, self_visible: bool, dtype: torch.dtype) -> None:
    ready(device, dtype)
    clips, heads = (1, 1) if joints * window > 100 else (3, 2)  # the interpreter is slow
    qkv = packed(clips, window * joints + 1, 3, heads, width, dtype=dtype, device=device)
    check(
        lambda qkv: clip_attention_packed(qkv, joints, self_visible, "triton"),
        lambda qkv: reference.clip_attention(*qkv.unbind(2), joints, self_visible),
        {"qkv": qkv},
    )


def frame_case(device: str, joints: int, frames: int, width: int, dtype: torch.dtype) -> None:
    ready(device, dtype)
    qkv = packed(frames, joints, 3, 2, width, dtype=dtype, device=device)
    check(
        lambda qkv: frame_attention_packed(qkv, "triton"),
        lambda qkv: reference.frame_attention(*qkv.unbind(2)),
        {"qkv": qkv},
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", covering(**CLIP), ids=name_of)
def test_clips(device: str, case: dict) -> None:
    clip_case(device, **case)


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", full(**CLIP), ids=name_of)
def test_clips_full_grid(device: str, case: dict) -> None:
    clip_case(device, **case)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", covering(**FRAME), ids=name_of)
def test_frames(device: str, case: dict) -> None:
    frame_case(device, **case)


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", full(**FRAME), ids=name_of)
def test_frames_full_grid(device: str, case: dict) -> None:
    frame_case(device, **case)


@pytest.mark.parametrize("device", DEVICES)
def test_separate_tensors_of_any_strides(device: str) -> None:
    """Heads before tokens, a slice of a wider tensor, and one vector for all clips."""
    ready(device, torch.float32)
    inputs = {
        "q": packed(2, 3, 16, 16, dtype=torch.float32, device=device).transpose(1, 2),
        "k": packed(2, 16, 3, 40, dtype=torch.float32, device=device)[..., 3:35:2],
        "v": packed(1, 16, 3, 16, dtype=torch.float32, device=device).expand(2, -1, -1, -1),
    }
    check(
        lambda q, k, v: clip_attention(q, k, v, 5, False, "triton"),
        lambda q, k, v: reference.clip_attention(q, k, v, 5, False),
        inputs,
    )
    check(lambda q, k, v: frame_attention(q, k, v, "triton"), reference.frame_attention, inputs)


@pytest.mark.parametrize("device", DEVICES)
def test_no_clips_at_all(device: str) -> None:
    ready(device, torch.float32)
    qkv = torch.zeros(0, 16, 3, 2, 16, device=device, requires_grad=True)
    clip_attention_packed(qkv, 5, True, "triton").sum().backward()
    assert qkv.grad is not None and qkv.grad.shape == qkv.shape


def test_registered_as_torch_wants() -> None:
    ready("cpu", torch.float32)
    qkv = torch.randn(2, 11, 3, 2, 16, requires_grad=True)
    q, k, v = (t.detach().requires_grad_() for t in qkv.unbind(2))
    torch.library.opcheck(torch.ops.hitrs_fast.attention_packed.default, (qkv, 5, False, True))
    torch.library.opcheck(torch.ops.hitrs_fast.attention.default, (q, k, v, 5, False, True))


@pytest.mark.parametrize("self_visible", [False, True])
def test_gradients_of_the_definition(self_visible: bool) -> None:
    qkv = torch.randn(2, 7, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: reference.clip_attention(*x.unbind(2), 3, self_visible), qkv)
    assert torch.autograd.gradcheck(lambda x: reference.frame_attention(*x.unbind(2)), qkv)


def test_tiles_are_filled_with_whole_frames() -> None:
    assert attention.span_of(25, same_frame=True) == 50
    assert attention.span_of(70, same_frame=True) == 70
    assert attention.span_of(176, same_frame=False) == 176


def test_bad_input_is_named() -> None:
    qkv = torch.zeros(2, 12, 3, 2, 16)
    with pytest.raises(ValueError, match="12 tokens is not frames of 5 joints"):
        clip_attention_packed(qkv, 5, True)
    with pytest.raises(ValueError, match="impl is 'cuda'"):
        frame_attention_packed(qkv, "cuda")
    q, k, v = qkv[:, :11].unbind(2)
    with pytest.raises(ValueError, match="must be alike"):
        clip_attention(q, k[:, :6], v[:, :6], 5, True, "triton")
    with pytest.raises(TypeError, match="float64"):
        frame_attention_packed(qkv.double(), "triton")

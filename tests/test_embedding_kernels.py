"""The joint embedding's kernel against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import DEVICES, check, covering, full, name_of, ready
from torch import Tensor

from hitrs_fast.kernels import reference
from hitrs_fast.kernels.joint_embedding import joint_embedding

SIZES = {
    "frames": (1, 3, 11),
    "joints": (5, 17, 20, 25, 33, 38),
    "channels": (1, 2, 3, 4),
    "width": (16, 24, 64, 128),
    "norm": (False, True),
}


def inputs_of(frames: int, joints: int, channels: int, width: int, norm: bool, device: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, mean: float = 0.0) -> Tensor:
        return (torch.randn(shape, generator=generator) + mean).to(device)

    inputs = {
        "coordinates": draw(frames, joints, channels, mean=2.0),
        "weight": draw(width, channels),
        "bias": draw(width),
        "position": draw(joints, width),
    }
    return inputs | ({"norm_weight": draw(width, mean=1.0), "norm_bias": draw(width)} if norm else {})


def embedding_case(device: str, **sizes) -> None:
    ready(device, torch.float32)
    inputs = inputs_of(device=device, **sizes)
    check(lambda **inputs: joint_embedding(**inputs, impl="triton"), reference.joint_embedding, inputs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", covering(**SIZES), ids=name_of)
def test_embedding(device: str, case: dict) -> None:
    embedding_case(device, **case)


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", full(**SIZES), ids=name_of)
def test_embedding_full_grid(device: str, case: dict) -> None:
    embedding_case(device, **case)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", [False, True])
def test_in_half_precision_only_the_result_is_rounded(device: str, norm: bool) -> None:
    ready(device, torch.float16)
    inputs = inputs_of(3, 5, 3, 16, norm, device)
    whole = joint_embedding(**inputs, impl="triton")
    assert joint_embedding(**inputs, impl="triton", dtype=torch.float16).equal(whole.half())
    leaves = {k: t.requires_grad_() for k, t in inputs.items()}
    joint_embedding(**leaves, impl="triton", dtype=torch.float16).sum().backward()
    assert all(t.grad is not None and t.grad.dtype == torch.float32 for t in leaves.values())


@pytest.mark.parametrize("device", DEVICES)
def test_strides_and_no_frames(device: str) -> None:
    ready(device, torch.float32)
    inputs = inputs_of(4, 5, 3, 16, True, device)
    inputs["coordinates"] = torch.randn(5, 8, 3, device=device).transpose(0, 1)[::2]
    inputs["weight"] = torch.randn(3, 16, device=device).T
    check(lambda **inputs: joint_embedding(**inputs, impl="triton"), reference.joint_embedding, inputs)
    none = {k: t.requires_grad_() for k, t in (inputs | {"coordinates": torch.zeros(0, 5, 3, device=device)}).items()}
    joint_embedding(**none, impl="triton").sum().backward()
    assert not none["weight"].grad.any() and not none["position"].grad.any()


def test_registered_as_torch_wants() -> None:
    ready("cpu", torch.float32)
    for norm in (False, True):
        leaves = [t.requires_grad_() for t in inputs_of(3, 5, 3, 16, norm, "cpu").values()]
        arguments = (*leaves, *([] if norm else [None, None]), 1e-5, torch.float32)
        torch.library.opcheck(torch.ops.hitrs_fast.joint_embedding.default, arguments)


def test_gradients_of_the_definition() -> None:
    leaves = [t.double().requires_grad_() for t in inputs_of(2, 3, 3, 5, True, "cpu").values()]
    assert torch.autograd.gradcheck(reference.joint_embedding, leaves)


def test_bad_input_is_named() -> None:
    inputs = inputs_of(2, 5, 3, 16, True, "cpu")
    with pytest.raises(ValueError, match="do not fit together"):
        joint_embedding(**inputs | {"position": inputs["position"][:1]}, impl="triton")
    with pytest.raises(ValueError, match="go together"):
        joint_embedding(**inputs | {"norm_bias": None}, impl="triton")

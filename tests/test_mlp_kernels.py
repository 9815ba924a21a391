"""The feed-forward kernels against the definition in float64, with dropout off and on."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import DEVICES, DTYPES, check, covering, full, hostile, name_of, ready
from torch import Tensor

from hitrs_fast.kernels import reference
from hitrs_fast.kernels.linear_gelu import linear_gelu
from hitrs_fast.kernels.mlp import draw_seed, dropout_mask, gelu_mlp

SIZES = {
    "rows": (1, 37, 70),
    "width": (16, 24, 64, 128, 200),
    "hidden": (16, 40, 128, 200),
    "p": (0.0, 0.2),
    "dtype": DTYPES,
    "stream": ("same", "float32"),
}
LINEAR = {"rows": (1, 65, 100), "width": (24, 64, 130), "hidden": (40, 64, 300), "dtype": DTYPES}


def block(rows: int, width: int, hidden: int, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Random weights of a trained layer's scale; what is not a matrix stays float32, as under autocast."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 1.0, mean: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
        return (torch.randn(shape, generator=generator) * scale + mean).to(device, dtype)

    return {
        "h": draw(rows, width, scale=2.0, mean=0.3, dtype=dtype),
        "norm_weight": draw(width, scale=0.3, mean=1.0),
        "norm_bias": draw(width, scale=0.3),
        "w_in": draw(hidden, width, scale=width**-0.5, dtype=dtype),
        "b_in": draw(hidden, scale=0.3),
        "w_out": draw(width, hidden, scale=hidden**-0.5, dtype=dtype),
        "b_out": draw(width, scale=0.3),
    }


def mlp_case(device: str, rows: int, width: int, hidden: int, p: float, dtype: torch.dtype, stream: str) -> None:
    """The definition in plain torch takes all weights in one dtype, so they are cast there."""
    ready(device, dtype)
    inputs = block(rows, width, hidden, dtype, device)
    if stream == "float32":
        inputs["h"] = inputs["h"].float()
    seed = torch.tensor([2**61 + 12345], device=device)
    keep = dropout_mask(seed, rows, width, p) if p else torch.ones(rows, width, dtype=torch.bool, device=device)

    def definition(h: Tensor, **weights: Tensor) -> Tensor:
        if h.dtype == torch.float64:
            return reference.gelu_mlp(h, **weights, p=p, keep=keep)
        return h + by_torch(h, weights, weights["w_in"].dtype, keep / (1 - p))

    check(lambda **inputs: gelu_mlp(**inputs, p=p, seed=seed, impl="triton"), definition, inputs)


def by_torch(h: Tensor, weights: dict[str, Tensor], dtype: torch.dtype, scale: Tensor) -> Tensor:
    """What autocast makes of the block: normalisation in float32, products in `dtype`."""
    from torch.nn.functional import gelu, layer_norm, linear

    normed = layer_norm(h.float(), h.shape[-1:], weights["norm_weight"], weights["norm_bias"]).to(dtype)
    a = linear(normed, weights["w_in"], weights["b_in"].to(dtype))
    return (linear(gelu(a), weights["w_out"], weights["b_out"].to(dtype)) * scale.to(dtype)).to(h.dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", covering(**SIZES), ids=name_of)
def test_block(device: str, case: dict) -> None:
    mlp_case(device, **case)


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", full(**SIZES), ids=name_of)
def test_block_full_grid(device: str, case: dict) -> None:
    mlp_case(device, **case)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", covering(**LINEAR), ids=name_of)
def test_projection(device: str, case: dict) -> None:
    ready(device, case["dtype"])
    inputs = block(case["rows"], case["width"], case["hidden"], case["dtype"], device)
    inputs = {"x": inputs["h"], "weight": inputs["w_in"], "bias": inputs["b_in"].to(case["dtype"])}
    check(lambda **inputs: linear_gelu(**inputs, impl="triton"), reference.linear_gelu, inputs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sizes", [(3, 600, 16), (3, 24, 300)], ids=["wide", "wider hidden, by parts"])
def test_wide_blocks(device: str, sizes: tuple[int, int, int]) -> None:
    ready(device, torch.float32)
    inputs = block(*sizes, torch.float32, device)
    check(lambda **inputs: gelu_mlp(**inputs, impl="triton"), reference.gelu_mlp, inputs)


@pytest.mark.parametrize("device", DEVICES)
def test_dropout_is_fair_and_follows_the_seed(device: str) -> None:
    ready(device, torch.float32)
    seeds = [torch.tensor([seed], device=device) for seed in (1, 1, 2, 2**62)]
    masks = [dropout_mask(seed, 400, 128, 0.2) for seed in seeds]
    assert masks[0].equal(masks[1])
    for mask in masks:
        assert abs(mask.float().mean().item() - 0.8) < 0.01  # five standard deviations
        for lines in (mask.float().mean(0), mask.float().mean(1)):
            assert (lines - 0.8).abs().max() < 0.2
    for one, two in [(0, 2), (0, 3), (2, 3)]:
        assert abs((masks[one] & masks[two]).float().mean().item() - 0.64) < 0.012
    shifted = masks[0][1:] & masks[0][:-1], masks[0][:, 1:] & masks[0][:, :-1]
    for both in shifted:
        assert abs(both.float().mean().item() - 0.64) < 0.012


def test_a_seed_comes_from_torchs_generator() -> None:
    torch.manual_seed(3)
    first = draw_seed(torch.device("cpu"))
    torch.manual_seed(3)
    assert draw_seed(torch.device("cpu")).equal(first)
    assert not draw_seed(torch.device("cpu")).equal(first)


@pytest.mark.parametrize("device", DEVICES)
def test_any_leading_dimensions_strides_and_no_rows(device: str) -> None:
    ready(device, torch.float32)
    inputs = block(12, 32, 16, torch.float32, device)
    wide = torch.randn(3, 4, 64, device=device)
    check(lambda **inputs: gelu_mlp(**inputs, impl="triton"), reference.gelu_mlp, inputs | {"h": wide[..., ::2]})
    none = {k: t.requires_grad_() for k, t in (inputs | {"h": inputs["h"][:0]}).items()}
    gelu_mlp(**none, impl="triton").sum().backward()
    assert none["w_in"].grad is not None and not none["w_in"].grad.any()


@pytest.mark.parametrize("device", DEVICES)
def test_vectors_of_any_strides(device: str) -> None:
    ready(device, torch.float32)
    inputs = block(12, 32, 16, torch.float32, device)
    strided = {k: torch.stack([t, t], -1)[..., 0] if t.ndim == 1 else t for k, t in inputs.items()}
    strided["b_in"] = inputs["b_in"][:1].expand(16)
    check(lambda **inputs: gelu_mlp(**inputs, impl="triton"), reference.gelu_mlp, strided)
    x = {"x": inputs["h"], "weight": inputs["w_in"].T.contiguous().T, "bias": strided["b_in"]}
    check(lambda **inputs: linear_gelu(**inputs, impl="triton"), reference.linear_gelu, x)
    assert linear_gelu(inputs["h"][:0], x["weight"], x["bias"], "triton").shape == (0, 16)


@pytest.mark.parametrize("device", DEVICES)
def test_under_autocast_products_are_half_and_gradients_whole(device: str) -> None:
    ready(device, torch.bfloat16)
    inputs = {k: t.requires_grad_() for k, t in block(20, 32, 16, torch.float32, device).items()}
    with hostile(), torch.autocast(device, torch.bfloat16):
        out = gelu_mlp(**inputs, impl="triton")
        out.sum().backward()
    expected = gelu_mlp(**inputs, impl="triton")
    assert out.dtype == torch.float32 and inputs["w_in"].grad.dtype == torch.float32
    error = (out - expected).norm() / expected.norm()
    assert 1e-5 < error < 1e-2


def test_registered_as_torch_wants() -> None:
    ready("cpu", torch.float32)
    inputs = [t.requires_grad_() for t in block(5, 16, 16, torch.float32, "cpu").values()]
    seed = torch.tensor([1])
    torch.library.opcheck(torch.ops.hitrs_fast.gelu_mlp.default, (*inputs, 0.2, seed, 1e-5))
    torch.library.opcheck(torch.ops.hitrs_fast.gelu_mlp.default, (*inputs, 0.0, None, 1e-5))
    torch.library.opcheck(torch.ops.hitrs_fast.linear_gelu.default, (inputs[0], inputs[3], inputs[4]))
    plain = [t.detach() for t in inputs]
    plain[3], plain[5] = plain[3].T.contiguous().T, plain[5].T.contiguous().T
    backward = (torch.randn(5, 16), *plain, 0.0, None, 1e-5)
    torch.library.opcheck(torch.ops.hitrs_fast.gelu_mlp_backward.default, backward, test_utils="test_faketensor")


def test_gradients_of_the_definitions() -> None:
    inputs = [t.double().requires_grad_() for t in block(3, 5, 4, torch.float32, "cpu").values()]
    keep = torch.rand(3, 5) > 0.2
    assert torch.autograd.gradcheck(lambda *x: reference.gelu_mlp(*x, p=0.2, keep=keep), inputs)
    assert torch.autograd.gradcheck(reference.linear_gelu, (inputs[0], inputs[3], inputs[4]))


def test_bad_input_is_named() -> None:
    inputs = block(3, 16, 16, torch.float32, "cpu")
    with pytest.raises(ValueError, match=r"p is 1\.0"):
        gelu_mlp(**inputs, p=1.0)
    with pytest.raises(ValueError, match="draw_seed"):
        gelu_mlp(**inputs, p=0.2, impl="triton")
    with pytest.raises(ValueError, match="do not fit together"):
        gelu_mlp(**inputs | {"w_out": inputs["w_out"][:5]}, impl="triton")
    with pytest.raises(ValueError, match="do not fit together"):
        linear_gelu(inputs["h"], inputs["w_in"], inputs["b_in"][:3], "triton")

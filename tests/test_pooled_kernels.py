"""The one-query attention kernel against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import DEVICES, DTYPES, check, covering, full, name_of, ready
from torch import Tensor

from hitrs_fast.kernels import reference
from hitrs_fast.kernels.pooled import pooled_attention

SIZES = {
    "tokens": (2, 15, 16, 65, 176),
    "width": (16, 40, 64, 256),
    "heads": (1, 3, 8),
    "head_dim": (16, 64),
    "masked": (False, True),
    "dtype": DTYPES,
}


def inputs_of(
    count: int, tokens: int, width: int, heads: int, head_dim: int, masked: bool, dtype: torch.dtype, device: str
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        return (torch.randn(shape, generator=generator) * scale + mean).to(device, dtype)

    inputs = {
        # Scores in which the softmax is not one-hot: there its gradient is nothing but rounding.
        "query": draw(count, heads, head_dim),
        "tokens": draw(count, tokens, width, scale=2.0, mean=0.3),
        "norm_weight": draw(width, scale=0.3, mean=1.0),
        "norm_bias": draw(width, scale=0.3),
        "w_k": draw(heads, head_dim, width, scale=width**-0.5),
        "w_v": draw(heads, head_dim, width, scale=width**-0.5),
    }
    if masked:
        visible = torch.rand(count, tokens, generator=generator) > 0.5
        visible[:, tokens // 2] = True
        inputs["visible"] = visible.to(device)
    return inputs


def pooled_case(device: str, **sizes) -> None:
    ready(device, sizes["dtype"])
    inputs = inputs_of(3 if sizes["tokens"] < 100 else 2, device=device, **sizes)
    check(lambda **inputs: pooled_attention(**inputs, impl="triton"), reference.pooled_attention, inputs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", covering(**SIZES), ids=name_of)
def test_pooled(device: str, case: dict) -> None:
    pooled_case(device, **case)


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", full(**SIZES), ids=name_of)
def test_pooled_full_grid(device: str, case: dict) -> None:
    pooled_case(device, **case)


@pytest.mark.parametrize("device", DEVICES)
def test_strides_and_no_rows(device: str) -> None:
    """Tokens cut out of a wider and longer tensor, a mask that is a slice; and no sequence at all."""
    ready(device, torch.float32)
    inputs = inputs_of(3, 20, 16, 2, 16, True, torch.float32, device)
    wide = torch.randn(3, 25, 32, generator=torch.Generator().manual_seed(1)).to(device)
    inputs["tokens"] = wide[:, 5:, ::2]
    inputs["visible"] = torch.ones(3, 40, dtype=torch.bool, device=device)[:, ::2]
    check(lambda **inputs: pooled_attention(**inputs, impl="triton"), reference.pooled_attention, inputs)
    none = inputs | {k: inputs[k][:0] for k in ("query", "tokens", "visible")}
    assert pooled_attention(**none, impl="triton").shape == (0, 2, 16)


@pytest.mark.parametrize("device", DEVICES)
def test_float32_tokens_under_autocast(device: str) -> None:
    """The video level: products in bfloat16, tokens and their gradient in float32."""
    ready(device, torch.bfloat16)
    inputs = inputs_of(2, 20, 32, 2, 16, True, torch.float32, device)

    def cast(function, **kwargs):
        def call(**inputs: Tensor) -> Tensor:
            if inputs["tokens"].dtype == torch.float64:
                return function(**inputs, **kwargs)
            with torch.autocast(device, torch.bfloat16):
                return function(**inputs, **kwargs)

        return call

    check(cast(pooled_attention, impl="triton"), cast(reference.pooled_attention), inputs)


def test_registered_as_torch_wants() -> None:
    ready("cpu", torch.float32)
    u, tokens = (torch.randn(2, n, 16, requires_grad=True) for n in (3, 5))
    visible = torch.tensor([[True] * 5, [True, True, False, True, False]])
    torch.library.opcheck(torch.ops.hitrs_fast.pool.default, (u, tokens, None, 1e-5))
    torch.library.opcheck(torch.ops.hitrs_fast.pool.default, (u, tokens, visible, 1e-5))


def test_gradients_of_the_definition() -> None:
    inputs = inputs_of(2, 5, 6, 2, 3, False, torch.float64, "cpu")
    visible = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])
    leaves = [t.requires_grad_() for t in inputs.values()]
    assert torch.autograd.gradcheck(lambda *x: reference.pooled_attention(*x, visible), leaves)


def test_bad_input_is_named() -> None:
    inputs = inputs_of(2, 5, 16, 2, 16, False, torch.float32, "cpu")
    with pytest.raises(ValueError, match="do not fit together"):
        pooled_attention(**inputs | {"w_v": inputs["w_v"][:1]}, impl="triton")
    with pytest.raises(ValueError, match="do not fit together"):
        pooled_attention(**inputs, visible=torch.ones(2, 4, dtype=torch.bool), impl="triton")
    wide = inputs_of(2, 5, 600, 2, 16, False, torch.float32, "cpu")
    with pytest.raises(ValueError, match="600 wide"):
        pooled_attention(**wide, impl="triton")

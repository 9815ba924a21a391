"""The adapters within what other people's code does with a module: copies, wrappers, compilers, autocast."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from helpers import tiny_config
from test_compat import ENOUGH, cut, padded, recordings
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import hitrs_fast as hf
from bench.reference import Reference
from hitrs_fast.compat import HiTRSRecognition, PysklBackbone, Sizes, STGCNRecognition

NAMES = ("authors", "st-gcn", "pyskl")


def case(name: str, sizes: Sizes | None = None, layers: int = 2) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    config = tiny_config(layers=layers, dropout=0.0)
    model = hf.Recognizer(hf.HiTRS(config), 7, bodies=2)
    bodies = [b.float() for b in recordings()]
    if name == "authors":
        return HiTRSRecognition(model, sizes), cut(Reference(config), bodies)
    if name == "st-gcn":
        return STGCNRecognition(model, sizes), (padded(bodies).permute(0, 4, 2, 3, 1),)
    return PysklBackbone(model.encoder, sizes=sizes), (padded(bodies),)


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


def gradients(model: nn.Module, out: Tensor) -> list[Tensor]:
    model.zero_grad()
    out.square().mean().backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies(name: str, copied) -> None:
    model, inputs = case(name, ENOUGH)
    other = copied(model)
    assert other.sizes == ENOUGH and torch.equal(other(*inputs), model(*inputs))
    assert not {p.data_ptr() for p in other.parameters()} & {p.data_ptr() for p in model.parameters()}


def test_functional_call(name: str) -> None:
    model, inputs = case(name)
    expected = model(*inputs)
    halves = {k: p.detach() / 2 for k, p in model.named_parameters()}
    halved = torch.func.functional_call(model, halves, inputs)
    assert not torch.allclose(halved, expected) and torch.equal(model(*inputs), expected)
    with torch.no_grad():
        for p in model.parameters():
            p /= 2
    assert torch.equal(halved, model(*inputs))


def test_gradients_by_function_transform(name: str) -> None:
    model, inputs = case(name)
    expected = gradients(model, model(*inputs))
    parameters = {k: p.detach() for k, p in model.named_parameters()}
    loss = lambda p: torch.func.functional_call(model, p, inputs).square().mean()  # noqa: E731
    for ours, theirs in zip(torch.func.grad(loss)(parameters).values(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_frozen_parameters(name: str) -> None:
    model, inputs = case(name)
    expected = dict(zip(dict(model.named_parameters()), gradients(model, model(*inputs)), strict=True))
    frozen = [k for i, k in enumerate(expected) if i % 3]
    for k, p in model.named_parameters():
        p.requires_grad_(k not in frozen)
    model.zero_grad()
    model(*inputs).square().mean().backward()
    for k, p in model.named_parameters():
        assert p.grad is None if k in frozen else torch.allclose(p.grad, expected[k], atol=1e-7), k
    model.requires_grad_(False)
    x = inputs[0].clone().requires_grad_()
    model(x, *inputs[1:]).sum().backward()
    assert x.grad.isfinite().all() and x.grad.ne(0).any()


def test_autocast(name: str) -> None:
    model, inputs = case(name)
    expected = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(*inputs)
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)
    assert all(g.isfinite().all() for g in gradients(model, out.float()))


def test_data_parallel_and_distributed(name: str) -> None:
    model, inputs = case(name)
    expected = model(*inputs)
    wanted = [g.clone() for g in gradients(model, expected)]
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        for wrapped in (nn.DataParallel(model), nn.parallel.DistributedDataParallel(model)):
            out = wrapped(*inputs)
            assert torch.equal(out, expected)
            for ours, theirs in zip(gradients(model, out), wanted, strict=True):
                torch.testing.assert_close(ours, theirs)
    finally:
        torch.distributed.destroy_process_group()


def test_compiled_whole_with_sizes(name: str) -> None:
    model, inputs = case(name, ENOUGH, layers=1)
    wanted = [g.clone() for g in gradients(model, model(*inputs))]
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    out = compiled(*inputs)
    torch.testing.assert_close(out, model(*inputs))
    for ours, theirs in zip(gradients(model, out), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    other = inputs[0].clone()
    other[:2] = 0
    with torch._dynamo.config.patch(error_on_recompile=True):
        torch.testing.assert_close(compiled(other, *inputs[1:]), model(other, *inputs[1:]))


def test_compiled_in_parts_without_sizes(name: str) -> None:
    model, inputs = case(name, layers=1)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), model(*inputs))


def test_no_value_is_read_with_sizes(name: str) -> None:
    """Fake tensors have no values, so an operation that waits for one fails."""
    model, inputs = case(name, ENOUGH)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model(*(mode.from_tensor(x) for x in inputs)).sum().backward()

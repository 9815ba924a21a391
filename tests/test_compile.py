"""torch.compile takes the whole pre-training model as one graph, once for each capacity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import tiny_config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

import hitrs_fast as hf
from hitrs_fast.pretext import contrast_loss
from training.data.augment import AugmentConfig
from training.data.loader import Loader
from training.data.pipeline import pretext_input


def parts() -> tuple[hf.Pretraining, Loader]:
    torch.manual_seed(0)
    lengths = np.clip(np.random.default_rng(0).lognormal(4.33, 0.42, 400).astype(int), 20, 300)
    offsets = np.concatenate([[0], lengths.cumsum()])
    model = hf.Pretraining(hf.HiTRS(tiny_config(5, dropout=0.1, layers=2)))
    frames = torch.randn(offsets[-1], 5, 3)
    loader = Loader(frames, offsets, np.arange(400), model.encoder.windows(), 16, AugmentConfig(), seed=0)
    return model, loader


def draw(model: hf.Pretraining, loader: Loader, plan, index: int) -> tuple[hf.PretextBatch, hf.Capacity]:
    batch = loader.batch(plan, index) if index >= 0 else loader.empty(loader.sizes[index])
    generator = torch.Generator().manual_seed(index % 1000)
    return pretext_input(batch, model.encoder.config, model.pretext, loader.augment, generator), batch.capacity


def test_no_graph_break_and_no_recompilation_after_warm_up() -> None:
    model, loader = parts()
    assert len(loader.sizes) == 3
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    for size in range(-3, 0):
        compiled(*draw(model, loader, None, size))["loss"].backward()
    met = set()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for epoch in range(3):
            plan = loader.plan(epoch)
            for index in range(min(len(plan), 17)):
                batch, capacity = draw(model, loader, plan, index)
                compiled(batch, capacity)["loss"].backward()
                met.add(capacity)
    assert len(met) == 3


def test_a_step_reads_no_values_on_the_host() -> None:
    """Fake tensors have no values, so an operation that waits for one fails."""
    model, loader = parts()
    batch = loader.batch(loader.plan(0), 0)
    generator = torch.Generator().manual_seed(0)
    for augment in (AugmentConfig.preset("paper"), AugmentConfig.preset("small")):
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = tree_map_only(torch.Tensor, mode.from_tensor, batch)
            inputs = pretext_input(fake, model.encoder.config, model.pretext, augment, generator)
            model(inputs, batch.capacity)["loss"].backward()
        model.zero_grad()


def test_autocast_to_bfloat16_stays_near() -> None:
    model, loader = parts()
    model.eval()
    inputs = draw(model, loader, loader.plan(0), 0)
    expected = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(*inputs)
    for name, value in expected.items():
        if name.startswith("loss"):
            assert out[name].dtype == torch.float32
            assert out[name].item() == pytest.approx(value.item(), rel=0.03), name


def test_bfloat16_tells_millimetres_and_clips_apart() -> None:
    model, _ = parts()
    frames = torch.full((2, 5, 3), 3.0)
    frames[1] += 0.006
    base = torch.randn(64)
    rows = base + 0.05 * torch.randn(256, 64)
    target = rows + 0.02 * torch.randn(256, 64)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = model.encoder.eval().frames(frames)
        out = contrast_loss(rows, target, torch.ones(256, dtype=torch.bool), 0.07, torch.tensor(256))
    assert not torch.equal(tokens[0], tokens[1])
    assert out["retrieval_acc"] > 0.95


@pytest.mark.slow
def test_compiled_equals_eager() -> None:
    model, loader = parts()
    model.eval()
    batch, capacity = draw(model, loader, loader.plan(0), 0)
    torch._dynamo.reset()
    out = torch.compile(model, fullgraph=True, dynamic=False)(batch, capacity)
    out["loss"].backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    expected = model(batch, capacity)
    expected["loss"].backward()
    for name, value in expected.items():
        assert out[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6), name
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-5)

"""The whole pre-training model on the kernels: the same loss and gradients, in one graph; without Triton on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import models, pretext_batch, tiny_config
from kernel_cases import DEVICES, TOOLS, hostile, ready
from torch.utils._pytree import tree_map_only

import hitrs_fast as hf


def parts(device: str, self_visible: bool) -> tuple[hf.Pretraining, hf.PretextBatch, hf.Capacity]:
    config = tiny_config(5, head_dim=16, widths=(16, 32, 32), ffn=(16, 16, 32), layers=2, self_visible=self_visible)
    pretext = hf.PretextConfig()
    _, model = models(config, pretext)
    batch, capacity = pretext_batch(config, pretext, [9, 14])
    to = lambda t: t.to(device, torch.float32 if t.is_floating_point() else None)  # noqa: E731
    return model.float().to(device), tree_map_only(torch.Tensor, to, batch), capacity


def step(model: hf.Pretraining, batch: hf.PretextBatch, capacity: hf.Capacity) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = model(batch, capacity)["loss"]
    loss.backward()
    return {"loss": loss.detach()} | {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("self_visible", [False, True])
def test_the_same_loss_and_gradients(device: str, self_visible: bool) -> None:
    ready(device, torch.float32)
    model, batch, capacity = parts(device, self_visible)
    model.encoder.use_kernels("reference")
    expected = step(model, batch, capacity)
    model.encoder.use_kernels("triton")
    with hostile():
        ours = step(model, batch, capacity)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert (ours[name] - value).norm() <= 1e-4 * value.norm().clamp(min=1e-6), name


@pytest.mark.parametrize("device", DEVICES)
def test_under_autocast_as_training_runs(device: str) -> None:
    """Loss and all gradients together err at most twice as much as plain torch's under autocast."""
    ready(device, torch.bfloat16)
    model, batch, capacity = parts(device, False)
    model.encoder.use_kernels("reference")
    exact = step(model, batch, capacity)

    def error(impl: str) -> float:
        model.encoder.use_kernels(impl)
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = model(batch, capacity)["loss"]
        loss.backward()
        assert abs(loss.item() / exact["loss"].item() - 1) < 0.02
        found = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        assert all(g.dtype == torch.float32 for g in found.values())
        return sum(((g - exact[k]) / exact[k].norm().clamp(min=1e-6)).square().sum().item() for k, g in found.items())

    with hostile():
        ours = error("triton")
    assert ours <= 4 * error("reference")  # squares


def test_the_compiled_model_is_one_graph_with_the_kernels_in_it() -> None:
    ready("cpu", torch.float32)
    model, batch, capacity = parts("cpu", False)
    model.encoder.use_kernels("triton")
    eager = step(model, batch, capacity)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="aot_eager")
    model.zero_grad()
    loss = compiled(batch, capacity)["loss"]
    loss.backward()
    torch.testing.assert_close(loss.detach(), eager["loss"])
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, eager[name], rtol=1e-4, atol=1e-6)


# Traced for "cuda" by Inductor with tensors that hold no values; in a process of its own, which poses as one with CUDA.
TRACE = """
import sys; sys.path[:0] = [{tools!r}, {tests!r}, {root!r}]
import trace_inductor, torch, hitrs_fast as hf
from helpers import pretext_batch, tiny_config
torch._inductor.config.joint_graph_constant_folding = False  # it would make real tensors
config = tiny_config(5, head_dim=16, widths=(16, 32, 32), ffn=(16, 16, 32), layers=2, dropout=0.1)
with torch.device("cpu"):
    batch, capacity = pretext_batch(config, hf.PretextConfig(), [9, 14])
class Loss(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = hf.Pretraining(hf.HiTRS(config), hf.PretextConfig())
    def forward(self, batch):
        return self.model(batch, capacity)["loss"]
def build():
    move = lambda t: torch.empty(t.shape, device="cuda", dtype=torch.float32 if t.is_floating_point() else t.dtype)
    return Loss(), (torch.utils._pytree.tree_map_only(torch.Tensor, move, batch),)
traced = trace_inductor.trace(build)
calls = {{call for graph in traced.graphs for call in graph.extern_calls if "hitrs_fast" in call}}
print(traced.failure, traced.graph_breaks, len(traced.graphs), sorted(calls))
assert not traced.failure and not traced.graph_breaks and len(traced.graphs) == 2
for name in {operations}:
    assert f"torch.ops.hitrs_fast.{{name}}.default" in calls, (name, calls)
"""
FORWARD = ["attention_packed", "gelu_mlp", "pool", "joint_embedding"]
OPERATIONS = [*FORWARD, *(f"{name}_backward" for name in FORWARD)]


@pytest.mark.slow
def test_traced_for_cuda_the_graph_holds_the_kernels() -> None:
    if not (TOOLS / "fake_cuda" / "trace_inductor.py").exists():
        pytest.skip("what traces for CUDA without a GPU is not here")
    tests = Path(__file__).parent
    script = TRACE.format(
        tools=str(TOOLS / "fake_cuda"), tests=str(tests), root=str(tests.parent), operations=OPERATIONS
    )
    run_python(script)


def test_without_triton_everything_runs_on_a_cpu() -> None:
    run_python("""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "triton":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "triton" else real(name, package)
import numpy as np, torch, hitrs_fast as hf
encoder = hf.HiTRS(hf.HiTRSConfig.small())
assert encoder.embed([np.zeros((9, 25, 3), np.float32)]).shape == (1, 256)
encoder.use_kernels("triton")
try:
    encoder.embed([np.zeros((9, 25, 3), np.float32)])
except RuntimeError as error:
    assert "pip install triton" in str(error), error
else:
    raise AssertionError("an explicit choice that cannot be had went through")
""")


def run_python(script: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

"""The report counts what it says, and the design's aims for memory traffic hold."""

from __future__ import annotations

import torch

from bench import step_model
from bench.offline import GPUS
from bench.traffic import Traffic


def test_operations_count_what_they_read_and_write_and_views_nothing() -> None:
    x = torch.zeros(10, 4)
    with Traffic() as traffic:
        x.T.unflatten(0, (2, 2))
    assert traffic.bytes == 0
    with Traffic() as traffic:
        x + x
    assert traffic.bytes == 3 * 160
    with Traffic() as traffic:
        x.mul_(2)
    assert traffic.bytes == 2 * 160


def test_kernels_move_their_tensors_once() -> None:
    """Forward: q, k, v and the output, bfloat16, and a float32 log-sum-exp a head."""
    assert step_model.kernel_bytes("clips")["attention_forward"] == 4 * 512 * 2 + 8 * 4
    assert step_model.kernel_bytes("frames")["attention_forward"] == 4 * 512 * 2 + 8 * 4


def test_traffic_beside_plain_torch() -> None:
    clip = sum(p.bytes for p in step_model.layer("clip"))
    pooled = sum(p.bytes for p in step_model.pooled())
    assert clip / step_model.eager_layer("clip") < 0.4
    assert pooled / step_model.eager_layer("clip") < 0.1
    assert step_model.step(256).seconds(GPUS["sm_90"]) < 0.020

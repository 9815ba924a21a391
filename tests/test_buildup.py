"""Every level of the bench's build-up computes what the reference computes, in float64."""

from __future__ import annotations

import pytest
import torch
from helpers import models, pretext_batch, tiny_config

from bench.buildup import LEVELS, BuildUp


@pytest.mark.parametrize("level", range(len(LEVELS)), ids=LEVELS)
def test_levels(level: int) -> None:
    config = tiny_config(joints=6)
    reference, product = models(config)
    batch, capacity = pretext_batch(config, reference.pretext, [31, 20, 47])
    model = BuildUp(config, reference.pretext, classes=7).double().eval().set_level(level)
    model.load_state_dict(reference.state_dict())
    ours, expected = model.pretrain_ragged(batch)["loss"], product(batch, capacity)["loss"]
    assert ours.item() == pytest.approx(expected.item(), rel=1e-10)
    ours.backward()
    expected.backward()
    torch.testing.assert_close(model.s_pe.pe.grad, product.encoder.joint_position.grad)
    torch.testing.assert_close(model.v_pe.pe.grad, product.encoder.video_position.grad)

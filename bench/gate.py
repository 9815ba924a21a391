"""No figure without this: the product's numbers are the dense reference's, in float64."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as fn

import hitrs_fast as hf

from . import cases
from .reference import Reference, dense_batch

LENGTHS = np.array([21, 40, 33])


@cache
def gate() -> None:
    """Losses and gradients of all four tasks' models agree with the reference's to 1e-9."""
    reference, product = cases.models(dtype=torch.float64)
    batch, capacity = cases.pretext_batch(LENGTHS, product, torch.float64)
    dense = dense_batch(batch, product.encoder.config)
    same(reference, product, product(batch, capacity)["loss"], reference.pretrain(dense)["loss"])

    lengths = batch.lengths
    bodies = [x[None] for x in batch.target.split(LENGTHS.tolist())]
    labels = torch.tensor([3, 1, 4], device=lengths.device)
    # The reference is given the absent second body; the product knows by itself.
    pairs = [torch.cat([x, torch.zeros_like(x)]) for x in bodies]
    recognizer = cases.recognizer(reference, product)
    logits = recognizer(batch.target, lengths, torch.arange(3, device=lengths.device), 3)
    same(
        reference,
        recognizer,
        fn.cross_entropy(logits, labels),
        fn.cross_entropy(reference.recognize(pairs), labels),
    )

    predictor = hf.MotionPredictor(product.encoder, hidden=32).to(batch.target).eval()
    expected = predictor.decode(reference.embed(bodies)[:, 0], torch.stack([x[0, -1] for x in bodies]), 3)
    torch.testing.assert_close(predictor(batch.target, lengths, 3), expected, rtol=1e-9, atol=0)

    detector = hf.FrameClassifier(product.encoder, classes=52).to(batch.target).eval()
    stream = batch.target[:40]
    ours = detector(stream, torch.tensor([40], device=stream.device))
    torch.testing.assert_close(ours, reference.detect(stream, detector.classifier, detector.dilate), rtol=1e-9, atol=0)


def same(reference: Reference, model: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    """The two losses and the gradients of both models agree to 1e-9."""
    for each in (reference, model):
        each.zero_grad(set_to_none=True)
    assert abs(ours.item() / theirs.item() - 1) < 1e-9
    ours.backward()
    theirs.backward()
    gradients = {k: p.grad for k, p in reference.named_parameters() if p.grad is not None}
    expected = dict(hf.load_authors_checkpoint(gradients).named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        error = (parameter.grad - expected[name].to(parameter)).norm() / expected[name].norm().clamp(min=1e-12)
        assert error < 1e-9, f"{name}: {error:.2e}"

"""`Recognizer(bodies=2)`: a body that is not in the batch counts as a sequence of zeros."""

from __future__ import annotations

import torch
from helpers import ragged, tiny_config

import hitrs_fast as hf


def test_absent_bodies_are_sequences_of_zeros() -> None:
    config = tiny_config()
    torch.manual_seed(0)
    model = hf.Recognizer(hf.HiTRS(config), 3, bodies=2).double().eval()
    frames, lengths = ragged([20, 31, 9, 4], config.joints)
    sample = torch.tensor([0, 1, 1, 2])  # sample 1 has two bodies of different lengths
    got = model(frames, lengths, sample, 4)
    zeros = [torch.zeros(n, config.joints, 3, dtype=torch.float64) for n in (20, 4)]
    full = torch.cat([frames, *zeros])
    want = model(full, torch.tensor([20, 31, 9, 4, 20, 4]), torch.tensor([0, 1, 1, 2, 0, 2]), 4)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    # and a sample without any body is the bias alone
    torch.testing.assert_close(got[3], model.classifier.bias)


def test_absent_bodies_with_padding_and_capacity() -> None:
    config = tiny_config()
    torch.manual_seed(0)
    model = hf.Recognizer(hf.HiTRS(config), 3, bodies=2).double().eval()
    frames, lengths = ragged([20, 31], config.joints)
    want = model(frames, lengths, torch.tensor([0, 1]), 2)
    padded = torch.cat([frames, frames[:6]])
    capacity = hf.Capacity(clips=20, longest=9)
    got = model(padded, torch.tensor([20, 31, 0, 0]), torch.tensor([0, 1, 0, 0]), 3, capacity)[:2]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)

"""Augmentation: what each operation may and may not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hitrs_fast import HiTRSConfig
from hitrs_fast.clips import Windows
from hitrs_fast.ragged import rows_of
from hitrs_fast.skeleton import LAYOUTS, SkeletonLayout, centre_on_hip, kept_in_place
from training.data.augment import AugmentConfig, augment, mirrored, rotations, subsets, transformed
from training.data.loader import Loader
from training.data.pipeline import model_frames

LENGTHS = torch.tensor([30, 0, 1, 50])
JOINTS = 9


def run(config: AugmentConfig, interpolated: bool = False, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(90, JOINTS, 3, generator=generator, dtype=torch.float64) + 1
    frames[5, 2] = 0
    frames[81:] = 0
    rows = rows_of(LENGTHS, 90)
    yes = torch.ones(4, dtype=torch.bool)
    return frames, augment(frames, frames, rows, yes, yes & interpolated, config, generator)


def test_scale_is_one_factor_for_a_sequence() -> None:
    before, after = run(AugmentConfig(operations=("scale",)))
    ratio = (after / before)[(before != 0)].view(-1, 3)
    first, last = ratio[: 30 * JOINTS - 1], ratio[-50 * JOINTS :]
    for part in (first, last):
        assert (part - part[0, 0]).abs().max() < 1e-12 and 0.8 <= part[0, 0] <= 1.2
    assert first[0, 0] != last[0, 0]


@pytest.mark.parametrize("per_frame", [False, True])
def test_noise_moves_five_joints(per_frame: bool) -> None:
    before, after = run(AugmentConfig(operations=("noise",), noise_per_frame=per_frame))
    offset = (after - before)[31:81]
    moved = (offset != 0).any(-1)
    assert (moved.sum(1) == 5).all() and offset.abs().max() <= 0.2 + 1e-12
    same = (offset - offset[0]).abs().max() < 1e-12
    assert same != per_frame


def test_shear_is_linear_with_ones_on_the_diagonal() -> None:
    before, after = run(AugmentConfig(operations=("shear",)))
    part = slice(31, 81)
    matrix = torch.linalg.lstsq(before[part].flatten(0, 1), after[part].flatten(0, 1)).solution
    assert (matrix.diagonal() - 1).abs().max() < 1e-9
    assert 0 < (matrix - torch.eye(3)).abs().max() <= 0.5


def test_rotation_keeps_heights_and_distances() -> None:
    before, after = run(AugmentConfig(operations=("scale",), probability=0.0, rotation=90.0))
    generator = torch.Generator().manual_seed(0)
    no = torch.zeros(4, dtype=torch.bool)
    after = augment(before, before, rows_of(LENGTHS, 90), no, no, AugmentConfig(rotation=90.0), generator)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(before[..., 1], after[..., 1])
    torch.testing.assert_close(before.norm(dim=-1), after.norm(dim=-1))


def test_a_mirrored_sequence_has_its_sides_and_its_first_axis_changed() -> None:
    layout, lengths = LAYOUTS["kinect20"], torch.tensor([3] * 40)
    frames = torch.rand(125, 20, 3) + 1
    frames[120:] = frames[4, 7] = 0
    out = mirrored(frames, rows_of(lengths, 125), 40, layout, torch.Generator().manual_seed(0), None)
    image = frames[:, list(layout.mirror)] * torch.tensor([-1, 1, 1])
    same = [torch.equal(out[i : i + 3], frames[i : i + 3]) for i in range(0, 120, 3)]
    other = [torch.equal(out[i : i + 3], image[i : i + 3]) for i in range(0, 120, 3)]
    assert all(a != b for a, b in zip(same, other, strict=True)) and 10 < sum(same) < 30
    assert (out[120:] == 0).all() and (out[4, 11 if other[1] else 7] == 0).all()


@pytest.mark.parametrize("sides", [True, False])
def test_a_layout_without_sides_is_not_mirrored(sides: bool) -> None:
    layout = LAYOUTS["kinect20"]
    if not sides:
        layout = SkeletonLayout("numbered", tuple(f"joint{j}" for j in range(20)), layout.parents, layout.hip)
    augmentation = AugmentConfig(probability=0.0, mirror=True)
    offsets = np.arange(0, 420, 20)
    loader = Loader(torch.rand(400, 20, 3), offsets, np.arange(20), Windows(7, 7, 2), 20, augmentation, 0)
    batch = loader.batch(loader.plan(0), 0)
    config, generator = HiTRSConfig.small(layout), torch.Generator().manual_seed(0)
    plain, out = (model_frames(batch, config, each, generator) for each in (None, augmentation))
    assert torch.equal(plain, out) != sides


def test_missing_joints_and_padding_stay_zero() -> None:
    for config in (AugmentConfig(rotation=90.0), AugmentConfig.preset("paper")):
        _, after = run(config)
        assert (after[5, 2] == 0).all() and (after[81:] == 0).all()


def test_interpolation_stays_within_the_sequence() -> None:
    config = AugmentConfig(operations=("scale",))
    _, plain = run(config)
    _, after = run(config, interpolated=True)
    for first, end in ((0, 30), (30, 31), (31, 81)):
        x, y = plain[first:end], after[first:end]
        assert torch.equal(x[-1], y[-1])
        if end - first > 1:
            ratio = ((y - x)[:-1] / x.diff(dim=0)).flatten()
            assert (ratio - ratio[0]).abs().max() < 1e-9 and 0 < ratio[0] < 1
    assert (after[81:] == 0).all()


def test_centring_puts_the_first_hip_at_the_origin() -> None:
    frames = torch.rand(20, 25, 3) + 1
    frames[3, 4] = 0
    frames[12:15] = 0  # a body that is missing at first
    out = centre_on_hip(frames, torch.tensor([0] * 12 + [2] * 8), 3, LAYOUTS["ntu25"])
    assert (out[0, 0] == 0).all() and (out[15, 0] == 0).all() and (out[3, 4] == 0).all() and (out[12:15] == 0).all()
    torch.testing.assert_close(out[17, 7], frames[17, 7] - frames[15, 0])


def test_bodies_that_walk_are_kept_in_place() -> None:
    frames, layout = torch.rand(5, 25, 3) + 1, LAYOUTS["ntu25"]
    frames[1, 7] = 0
    frames[2, 0] = 0  # no hip
    frames[3] = 0
    centred = centre_on_hip(frames, torch.zeros(5, dtype=torch.long), 1, layout)
    out = kept_in_place(centred, frames, layout)
    assert torch.equal(out[..., 1], centred[..., 1]) and (out[1, 7] == 0).all() and (out[3] == 0).all()
    assert torch.equal(out[0], centred[0]) and (out[4, 0, ::2] == 0).all() and (out[2, 0] == 0).all()
    torch.testing.assert_close(out[4, 7, ::2], frames[4, 7, ::2] - frames[4, 0, ::2])
    torch.testing.assert_close(out[2, 1:, ::2].mean(0), torch.zeros(2), rtol=0, atol=1e-6)


def test_aligned_bodies_face_the_camera_whichever_way_they_stood() -> None:
    layout = LAYOUTS["ntu25"]
    generator = torch.Generator().manual_seed(0)
    body = torch.rand(8, 25, 3, generator=generator, dtype=torch.float64) + 1
    body[:2] = 0  # not there at first
    body[4, 7] = 0
    sequence = torch.tensor([0] * 8 + [1] * 8)
    turn = rotations(torch.tensor([130.0], dtype=torch.float64)).expand(8, 3, 3)
    both = torch.cat([body, transformed(body, turn)])
    out = centre_on_hip(both, sequence, 3, layout, align=True)
    torch.testing.assert_close(out[:8], out[8:])
    line = sum(out[2, right] - out[2, left] for left, right in layout.sides)
    assert abs(line[2]) < 1e-12 and line[0] > 0 and (out[4, 7] == 0).all() and (out[2, 0] == 0).all()
    plain = centre_on_hip(both, sequence, 3, layout)
    torch.testing.assert_close(out.norm(dim=-1), plain.norm(dim=-1))
    torch.testing.assert_close(out[..., 1], plain[..., 1])


def test_a_body_without_its_sides_is_not_turned() -> None:
    layout, frames = LAYOUTS["ntu25"], torch.rand(4, 25, 3) + 1
    frames[:, [left for left, _ in layout.sides]] = 0
    own = torch.zeros(4, dtype=torch.long)
    assert torch.equal(centre_on_hip(frames, own, 1, layout, align=True), centre_on_hip(frames, own, 1, layout))


def test_interpolation_without_any_padding() -> None:
    rows, yes = rows_of(torch.tensor([5]), 5), torch.ones(1, dtype=torch.bool)
    frames = torch.arange(1.0, 6.0)[:, None, None].expand(-1, 2, 3)
    config = AugmentConfig(operations=("shear",), probability=0.0)
    out = augment(frames, frames, rows, yes, yes, config, torch.Generator().manual_seed(0))
    sheared = augment(frames, frames, rows, yes, ~yes, config, torch.Generator().manual_seed(0))
    assert torch.equal(out[4], sheared[4]) and not torch.equal(out[3], sheared[3])


def test_noise_spares_what_was_missing_before_centring() -> None:
    raw = torch.rand(40, JOINTS, 3) + 1
    raw[:, 3] = 0
    centred = raw - raw[:, :1]
    centred[:, 3] = 0  # as centring leaves it; joint 0 is at the origin, but there
    rows, yes = rows_of(torch.tensor([40]), 40), torch.ones(1, dtype=torch.bool)
    config = AugmentConfig(operations=("noise",), noise_per_frame=True)
    moved = augment(centred.clone(), raw, rows, yes, ~yes, config, torch.Generator().manual_seed(0)) - centred
    assert (moved[:, 3] == 0).all() and (moved[:, 0] != 0).any()


def test_subsets_are_uniform() -> None:
    picked = subsets(60_000, 7, 3, torch.zeros(()), torch.Generator().manual_seed(0))
    assert picked.shape == (60_000, 3) and picked.min() == 0 and picked.max() == 6
    kinds, counts = picked.sort(1).values.unique(dim=0, return_counts=True)
    assert (kinds.diff(dim=1) > 0).all() and len(kinds) == 35
    assert (counts / (60_000 / 35) - 1).abs().max() < 0.1
    assert subsets(5, 4, 4, torch.zeros(()), torch.Generator()).sort(1).values.tolist() == [[0, 1, 2, 3]] * 5


def test_transformed_is_a_matrix_product() -> None:
    for channels in (2, 3):
        frames, matrix = torch.randn(6, 5, channels).double(), torch.randn(6, channels, channels).double()
        torch.testing.assert_close(transformed(frames, matrix), frames @ matrix)

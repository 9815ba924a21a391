"""The online detector and the chunked scores against one call of the encoder for each track, in float64."""

from __future__ import annotations

import gc
from functools import cache

import numpy as np
import pytest
import torch
from helpers import tiny_config
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hitrs_fast as hf
from bench.measure import PeakMemory
from hitrs_fast.online import Detection, Detector
from hitrs_fast.scoring import Scores, Track, score_stream

FPS = 10
JOINTS = 4
STREAMS = [(stream, center) for stream in ("joint", "bone", "motion") for center in ("", "first", "in place")]
Push = tuple[int, dict[str, Tensor]]  # a frame's number, and poses by body


@cache
def model_of(stream: str = "joint", center: str = "", window: int = 5, dilate: int = 2) -> hf.FrameClassifier:
    """Its clips span 9 frames. Its scores are far apart, so that a wrong one is seen."""
    torch.manual_seed(0)
    config = tiny_config(
        JOINTS, window=window, stream=stream, center=bool(center), layers=2, in_place=center == "in place"
    )
    model = hf.FrameClassifier(hf.HiTRS(config), classes=3, dilate=dilate).double().eval()
    model.classifier.weight.data *= 30
    with torch.no_grad():
        x, lengths = motion(40), torch.tensor([40])
        model.classifier.bias -= model(model.encoder.prepare(x, lengths), lengths).mean(0)
    return model


def motion(frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, JOINTS, 3, generator=generator, dtype=torch.float64).cumsum(0) + 5


def run(model: hf.FrameClassifier, pushes: list[Push]) -> list[Detection]:
    detector = Detector(model, FPS)
    done = [found for number, bodies in pushes for found in detector.push(bodies, number)]
    return done + detector.flush()


def tracks_of(pushes: list[Push]) -> list[Track]:
    """Each body's unbroken stays, as they were seen."""
    tracks: list[tuple[list[Tensor], list[int]]] = []
    running: dict[str, tuple[list[Tensor], list[int]]] = {}
    last = None
    for number, bodies in pushes:
        if last is not None and number - last > FPS:
            running = {}
        running = {body: running.get(body, ([], [])) for body in bodies}
        for body, pose in bodies.items():
            if not running[body][0]:
                tracks.append(running[body])
            running[body][0].append(pose)
            running[body][1].append(number)
        last = number
    return [Track(torch.stack(poses), torch.tensor(numbers)) for poses, numbers in tracks]


def in_one_call(model: hf.FrameClassifier, tracks: list[Track]) -> Scores:
    """Every track held through its gaps and embedded at once; every frame the mean of its bodies."""
    found: dict[int, list[Tensor]] = {}
    for poses, numbers in tracks:
        filled = torch.stack([poses[int((numbers <= n).sum()) - 1] for n in range(numbers[0], numbers[-1] + 1)])
        lengths = torch.tensor([len(filled)])
        with torch.no_grad():
            prepared = model.encoder.prepare(filled, lengths)
            clips = model.encoder(prepared, lengths, "clip", stride=1, dilate=model.dilate).clip
        for number in numbers.tolist():
            found.setdefault(number, []).append(clips[number - int(numbers[0])])
    with torch.no_grad():
        rows = [model.classifier(torch.stack(found[n]).mean(0)).softmax(-1) for n in sorted(found)]
    return Scores(torch.tensor(sorted(found)), torch.stack(rows))


def assert_all_agree(model: hf.FrameClassifier, pushes: list[Push]) -> None:
    tracks = tracks_of(pushes)
    expected, detections = in_one_call(model, tracks), run(model, pushes)
    chunked = score_stream(model, tracks, FPS, chunk=3)
    assert [d.number for d in detections] == expected.numbers.tolist() == chunked.numbers.tolist()
    assert [d.bodies for d in detections] == [len(bodies) for _, bodies in pushes if bodies]
    online = torch.stack([d.probabilities for d in detections])
    torch.testing.assert_close(online, expected.probabilities, rtol=0, atol=1e-9)
    torch.testing.assert_close(chunked.probabilities, expected.probabilities, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("stream", "center"), STREAMS)
@pytest.mark.parametrize("frames", [1, 2, 4, 5, 9, 40])
def test_one_body_equals_the_frame_classifier(stream: str, center: str, frames: int) -> None:
    model, x = model_of(stream, center), motion(frames)
    lengths = torch.tensor([frames])
    with torch.no_grad():
        expected = model(model.encoder.prepare(x, lengths), lengths).softmax(-1)
    detections = run(model, [(n, {"a": pose}) for n, pose in enumerate(x)])
    online = torch.stack([d.probabilities for d in detections])
    torch.testing.assert_close(online, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(score_stream(model, [Track(x)]).probabilities, expected, rtol=0, atol=1e-9)
    assert frames < 40 or expected.amax(0).sub(expected.amin(0)).max() > 0.1  # the comparison means something


def test_float32_is_as_near() -> None:
    config = hf.HiTRSConfig.small("kinect20")
    model = hf.FrameClassifier(hf.HiTRS(config), classes=11).eval()
    model.classifier.weight.data *= 10
    x, lengths = torch.randn(60, 20, 3).cumsum(0) * 0.05 + 2, torch.tensor([60])
    with torch.no_grad():
        expected = model(model.encoder.prepare(x, lengths), lengths).softmax(-1)
    detector = Detector(model)
    online = [d.probabilities for pose in x.numpy() for d in detector.push([pose])]
    online += [d.probabilities for d in detector.flush()]
    torch.testing.assert_close(torch.stack(online), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(score_stream(model, [Track(x)]).probabilities, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("stream", "center"), STREAMS)
def test_bodies_that_come_and_go_through_gaps(stream: str, center: str) -> None:
    present = {"a": range(40), "b": [*range(3, 12), *range(14, 30)], "c": [11, 20, 21]}
    dropped = {5, 6, 13, 25, 26, 27}
    late = {n: n + (FPS if n >= 33 else 0) for n in range(40)}  # 32 to 43: a gap of more than a second
    poses = {body: motion(40, seed) for seed, body in enumerate(present)}
    pushes = [(late[n], {b: poses[b][n] for b in present if n in present[b]}) for n in range(40) if n not in dropped]
    assert_all_agree(model_of(stream, center), pushes)


STEPS = st.lists(
    st.tuples(st.sampled_from([1, 1, 1, 2, 3, 9, 10, 11, 50]), st.sets(st.sampled_from("abc"))), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, kind=st.sampled_from(STREAMS), sizes=st.sampled_from([(5, 2), (3, 1), (3, 4)]))
def test_any_pattern_of_pushes(steps: list[tuple[int, set[str]]], kind: tuple[str, bool], sizes) -> None:
    poses, numbers = motion(len(steps) * 3).view(-1, 3, JOINTS, 3), np.cumsum([jump for jump, _ in steps])
    pushes = [
        (int(number), {body: poses[i]["abc".index(body)] for body in sorted(there)})
        for i, (number, (_, there)) in enumerate(zip(numbers, steps, strict=True))
    ]
    model = model_of(*kind, *sizes)
    if any(bodies for _, bodies in pushes):
        assert_all_agree(model, pushes)
    else:
        assert run(model, pushes) == []


def test_scores_come_half_a_window_later() -> None:
    model, x = model_of(), motion(30)
    detector = Detector(model, FPS)
    assert detector.delay == 4
    found = [[d.number for d in detector.push([pose])] for pose in x]
    assert found == [[]] * 4 + [[n] for n in range(26)]
    assert [d.number for d in detector.flush()] == [26, 27, 28, 29]
    assert detector.flush() == [] and detector.push([x[0]]) == []
    assert [d.number for d in detector.flush()] == [0]  # as new
    assert Detector(hf.FrameClassifier(hf.HiTRS(hf.HiTRSConfig.small()), 2)).delay == 12


def test_a_gap_of_a_second_holds_and_a_longer_one_splits() -> None:
    model, x = model_of(), motion(12)
    for jump, pieces in ((FPS, 1), (FPS + 1, 2)):
        pushes = [(n if n < 6 else n + jump - 1, {"a": pose}) for n, pose in enumerate(x)]
        scores = torch.stack([d.probabilities for d in run(model, pushes)])
        alone = torch.cat([score_stream(model, [Track(part)]).probabilities for part in (x[:6], x[6:])])
        assert torch.allclose(scores, alone) == (pieces == 2)
    detector = Detector(model, FPS)
    for number, pose in enumerate(x):
        detector.push([pose], number)
    assert len(detector.push([x[0]], 10**15)) == 4  # all that was pending, and at once


def test_each_pose_is_encoded_once_and_each_frame_costs_one_clip_a_body(monkeypatch) -> None:
    model, x = model_of(), motion(40)
    counted = {"frame_tokens": 0, "clips": 0}
    for name, argument in (("frame_tokens", 0), ("clips", 1)):
        original = getattr(model.encoder, name)

        def counting(*given, name=name, argument=argument, original=original):
            counted[name] += len(given[argument])
            return original(*given)

        monkeypatch.setattr(model.encoder, name, counting)
    run(model, [(2 * n, {"a": x[n]} | ({"b": x[n] + 1} if n < 20 else {})) for n in range(40)])
    assert counted == {"frame_tokens": 61, "clips": 60}  # one zero frame


def test_state_does_not_grow() -> None:
    """With ever new bodies and dropped frames; all tensors of the process are counted."""
    model, x = model_of("motion", True, 3, 1), motion(60)
    detector = Detector(model, FPS)
    numbers = (1 + np.arange(2000) % 2).cumsum()

    def alive(begin: int, end: int) -> tuple[int, int]:
        for n in range(begin, end):
            detector.push({"stays": x[n % 60], n // 4: x[-n % 60]}, numbers[n])
        gc.collect()
        tensors = [t.untyped_storage() for t in gc.get_objects() if type(t) is Tensor]
        storages = {t._cdata: t.nbytes() for t in tensors}
        return len(storages), sum(storages.values())

    assert alive(0, 120) == alive(120, 1920)


def test_the_callers_buffer_may_be_filled_again() -> None:
    for dtype in (torch.float64, torch.float32):
        model, x = model_of("motion"), motion(20).to(dtype)
        detector, buffer, found = Detector(model, FPS), torch.zeros(1, JOINTS, 3, dtype=dtype), []
        for pose in x:
            buffer[0] = pose
            found += detector.push(buffer.numpy())
        found += detector.flush()
        torch.testing.assert_close(
            torch.stack([d.probabilities for d in found]), score_stream(model, [Track(x)]).probabilities
        )


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_poses_that_are_not_finite_are_left_out_and_counted(wrong: float) -> None:
    model, x, y = model_of("motion"), motion(20), motion(20, 1)
    bad = y.clone()
    bad[7, 2, 1] = bad[8, 0, 0] = wrong
    detector = Detector(model, FPS)
    found = [d for n in range(20) for d in detector.push({"a": x[n], "b": bad[n]})] + detector.flush()
    seen = [(n, {"a": x[n]} | ({"b": y[n]} if n not in (7, 8) else {})) for n in range(20)]
    expected = in_one_call(model, tracks_of(seen))
    torch.testing.assert_close(torch.stack([d.probabilities for d in found]), expected.probabilities)
    assert detector.skipped.not_finite == 2 and [d.bodies for d in found][6:10] == [2, 1, 1, 2]


def test_time_that_runs_backwards_or_stands_still_is_left_out_and_counted() -> None:
    model, x = model_of("motion"), motion(20)
    expected = score_stream(model, [Track(x)]).probabilities
    for times in (False, True):
        detector, found = Detector(model, FPS), []
        for n, pose in enumerate(x):
            found += detector.push([pose], time=n / FPS) if times else detector.push([pose], n)
            for wrong in (n, n - 1, n - 5):
                back = detector.push([pose + 9], time=wrong / FPS) if times else detector.push([pose + 9], wrong)
                assert back == []
        assert detector.push([x[0]], time=float("nan")) == detector.push([x[0]], time=float("inf")) == []
        found += detector.flush()
        torch.testing.assert_close(torch.stack([d.probabilities for d in found]), expected)
        assert detector.skipped.late == 62


def numbers_of(times: np.ndarray) -> list[int]:
    detector, pose = Detector(model_of(window=3, dilate=1), FPS), motion(1)
    found = [d.number for time in times for d in detector.push(pose, time=float(time))]
    return found + [d.number for d in detector.flush()]


def test_times_become_numbers_in_spite_of_jitter_and_drift() -> None:
    jitter = np.random.default_rng(0).uniform(-0.02, 0.02, 100)
    for start in (0.0, 0.05, 0.0501, 1.7e9 + 0.05):
        numbers = numbers_of(start + np.arange(100) / FPS + jitter)
        assert np.diff(numbers).tolist() == [1] * 99 and abs(numbers[0] / FPS - start) < 0.08
    drifting = numbers_of(np.arange(400) / (FPS * 1.01) + np.tile(jitter, 4))
    assert len(drifting) == 396 and drifting[-1] == 395  # four frames too many in as many seconds
    slower = np.diff(numbers_of(np.arange(400) / (FPS * 0.99)))
    assert sorted(slower)[-6:] == [1, 1, 2, 2, 2, 2] and len(slower) == 399
    assert numbers_of(np.array([0.0, 0.1, 0.4, 0.5])) == [0, 1, 4, 5]
    assert numbers_of(np.arange(41) / 20) == list(range(21))  # every other frame of a camera twice as fast


def test_zeros_mean_that_nobody_is_there() -> None:
    model, x = model_of("motion", True), motion(20)
    gone = x.clone()
    gone[6:9] = 0
    pushes = [(n, {} if 6 <= n < 9 else {"a": x[n]}) for n in range(20)]
    expected = in_one_call(model, tracks_of(pushes)).probabilities
    slots = [(n, {"a": pose, "empty": torch.zeros_like(pose)}) for n, pose in enumerate(gone)]
    found = run(model, slots)
    torch.testing.assert_close(torch.stack([d.probabilities for d in found]), expected)
    assert [d.bodies for d in found] == [1] * 17
    torch.testing.assert_close(score_stream(model, [Track(gone)], FPS).probabilities, expected)


def test_a_centred_track_begins_with_its_hip() -> None:
    x = motion(20)
    x[:3, 0] = 0
    x[10, 0] = 0  # known by then
    pushes = [(n, {"a": pose}) for n, pose in enumerate(x)]
    for center, first in (("first", 3), ("in place", 3), ("", 0)):
        model, detector = model_of("joint", center), Detector(model_of("joint", center), FPS)
        found = [d for n, bodies in pushes for d in detector.push(bodies, n)] + detector.flush()
        expected = in_one_call(model, tracks_of(pushes[first:]))
        assert [d.number for d in found] == list(range(first, 20))
        torch.testing.assert_close(torch.stack([d.probabilities for d in found]), expected.probabilities)
        torch.testing.assert_close(score_stream(model, [Track(x)], FPS).probabilities, expected.probabilities)
        assert detector.skipped.no_hip == first


def test_dropout_is_off() -> None:
    torch.manual_seed(0)
    model = hf.FrameClassifier(hf.HiTRS(tiny_config(JOINTS, dropout=0.5)), 3).double().train()
    scores = score_stream(model, [Track(motion(20))])
    assert model.training and torch.equal(score_stream(model, [Track(motion(20))]).probabilities, scores.probabilities)
    online = run(model, [(n, {0: pose}) for n, pose in enumerate(motion(20))])
    torch.testing.assert_close(torch.stack([d.probabilities for d in online]), scores.probabilities)


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_chunks_change_nothing(chunk: int) -> None:
    model, tracks = (
        model_of("motion", True),
        [Track(motion(33)), Track(motion(6, 1), range(30, 36)), Track(motion(1), [90])],
    )
    whole, parts = score_stream(model, tracks, chunk=10**6), score_stream(model, tracks, chunk=chunk)
    assert torch.equal(whole.numbers, parts.numbers)
    torch.testing.assert_close(parts.probabilities, whole.probabilities)


def test_memory_is_that_of_a_chunk() -> None:
    model = model_of("motion", True)

    def peak(frames: int) -> float:
        x = motion(frames)
        with PeakMemory() as memory:
            score_stream(model, [Track(x)], chunk=8)
        return memory.peak - 8 * x.nbytes  # what is linear: poses, centred poses, differences

    assert peak(1600) < 1.1 * peak(100)


def test_nothing_to_score() -> None:
    model = model_of()
    for tracks in ([], [Track(motion(0))], [Track(torch.zeros(4, JOINTS, 3))]):
        scores = score_stream(model, tracks)
        assert scores.numbers.shape == (0,) and scores.probabilities.shape == (0, 3)
    detector = Detector(model)
    assert [detector.push(nobody) for nobody in ({}, [], np.zeros((0, JOINTS, 3)))] == [[]] * 3
    assert detector.flush() == []


def test_wrong_input_is_named_and_changes_nothing() -> None:
    model, x = model_of(), motion(20)
    detector = Detector(model, FPS)
    found = []
    for n, pose in enumerate(x):
        with pytest.raises(ValueError, match=r"body 1 has shape \(5, 3\).*4 joints"):
            detector.push({0: pose, 1: np.zeros((5, 3))})
        with pytest.raises(ValueError, match="frame number 3 and time"):
            detector.push([pose], number=3, time=0.5)
        found += detector.push([pose], n)
    found += detector.flush()
    torch.testing.assert_close(
        torch.stack([d.probabilities for d in found]), score_stream(model, [Track(x)]).probabilities
    )
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps is"):
            Detector(model, fps)
        with pytest.raises(ValueError, match="fps is"):
            score_stream(model, [Track(x)], fps)


def test_tracks_that_do_not_fit_are_named() -> None:
    model, x = model_of(), motion(6)
    bad = x.clone()
    bad[4, 1, 1] = float("nan")
    for track, message in (
        (Track(x[:, :3]), r"track 1 has shape \(6, 3, 3\)"),
        (Track(bad), "track 1 has nan.*row 4"),
        (Track(x, [0, 1, 2, 2, 3, 4]), "track 1: its numbers must be 6"),
        (Track(x, [0, 1, 2]), "track 1: its numbers must be 6"),
        (Track(x, np.arange(6) / 2), "track 1: its numbers must be 6"),
    ):
        with pytest.raises(ValueError, match=message):
            score_stream(model, [Track(x), track])

"""The programs of docs/examples.md, each by itself, as a reader would copy it."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from doc_examples import run_examples

DOC = Path(__file__).parents[1] / "docs" / "examples.md"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each section's code leaves behind, and as `printed` what it printed; by a word of the heading."""
    done = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("reader"))
        torch.manual_seed(0)
        for section in DOC.read_text().removeprefix("# ").split("\n## "):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                names = run_examples(section)
            done[section.splitlines()[0]] = names | {"printed": printed.getvalue()}
    words = ("Examples", "Embeddings", "Search", "Fine-tuning", "pyskl", "webcam")
    assert len(done) == len(words)
    return {word: names for word, (heading, names) in zip(words, done.items(), strict=True) if word in heading}


def test_embedding_takes_five_lines(programs: dict[str, dict[str, Any]]) -> None:
    assert programs["Embeddings"]["embeddings"].shape == (9, 256)
    code = DOC.read_text().split("## Embeddings")[1].split("```")[1]
    assert len([line for line in code.splitlines()[1:] if line]) == 5


def test_search_finds_the_recording_itself_first(programs: dict[str, dict[str, Any]]) -> None:
    found = re.findall(r"^(\w+_\d): (\d\.\d{3})$", programs["Search"]["printed"], re.MULTILINE)
    assert len(found) == 3 and found[0] == ("fast_2", "1.000")
    assert programs["Search"]["gallery"].norm(dim=1).tolist() == pytest.approx([1] * 9)


def test_fine_tuning_reaches_every_level(programs: dict[str, dict[str, Any]]) -> None:
    names = programs["Fine-tuning"]
    assert torch.isfinite(names["loss"]) and names["logits"].shape == (3, 3)
    assert sorted(names["labels"].tolist()) == [0] * 3 + [1] * 3 + [2] * 3
    assert all(p.grad is not None and p.grad.any() for p in names["model"].classifier.parameters())
    assert all(p.grad is not None for p in names["model"].parameters())


def test_pyskl_gets_the_scores_of_each_recording(programs: dict[str, dict[str, Any]]) -> None:
    names = programs["pyskl"]
    assert names["features"].shape == (2, 2, 256, 1, 1) and names["scores"].shape == (2, 60)
    assert names["model"]["cls_head"]["in_channels"] == names["features"].shape[2]


def test_webcam_names_all_frames_but_those_that_wait(programs: dict[str, dict[str, Any]]) -> None:
    names = programs["webcam"]
    assert [time for time, _ in names["seen"]] == pytest.approx(np.arange(90 - names["detector"].delay) / 30)
    assert {action for _, action in names["seen"]} <= set(names["actions"])
    assert names["detector"].skipped == type(names["detector"].skipped)()


def test_camera_gives_what_the_detector_takes(programs: dict[str, dict[str, Any]], monkeypatch) -> None:
    """OpenCV and MediaPipe are stood in for by the calls that their documentation names; no camera was at hand."""
    rng = np.random.default_rng(0)
    images = iter([(True, "image")] * 40 + [(False, None)])
    ticks = iter(range(1000))
    bodies = iter([[]] * 3 + [[[SimpleNamespace(x=x, y=y, z=z) for x, y, z in rng.normal(size=(33, 3))]]] * 37)

    class Landmarker:
        def detect_for_video(self, image: Any, milliseconds: int) -> SimpleNamespace:
            assert image.data == "image" and isinstance(milliseconds, int)
            return SimpleNamespace(pose_world_landmarks=next(bodies))

    class PoseLandmarker:
        @staticmethod
        def create_from_options(options: SimpleNamespace) -> contextlib.nullcontext:
            assert options.running_mode == "video" and options.base_options.model_asset_path.endswith(".task")
            return contextlib.nullcontext(Landmarker())

    vision = SimpleNamespace(
        PoseLandmarker=PoseLandmarker, PoseLandmarkerOptions=SimpleNamespace, RunningMode=SimpleNamespace(VIDEO="video")
    )
    tasks = SimpleNamespace(vision=vision, BaseOptions=SimpleNamespace)
    mediapipe = SimpleNamespace(tasks=tasks, Image=SimpleNamespace, ImageFormat=SimpleNamespace(SRGB="srgb"))
    opencv = SimpleNamespace(
        VideoCapture=lambda _: SimpleNamespace(read=lambda: next(images)),
        getTickCount=lambda: next(ticks),
        getTickFrequency=lambda: 30.0,
        cvtColor=lambda image, _: image,
        COLOR_BGR2RGB="rgb",
    )
    monkeypatch.setitem(sys.modules, "mediapipe", mediapipe)
    monkeypatch.setitem(sys.modules, "cv2", opencv)

    names = programs["webcam"]
    names["detector"].flush()
    seen = names["watch"](names["camera"]())
    first = 4  # frame 1 is the first image's, and three have nobody
    assert [time for time, _ in seen] == pytest.approx(np.arange(first, 41 - names["detector"].delay) / 30)

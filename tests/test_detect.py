"""python -m training.detect, end to end on a store of short streams."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from stream_cases import StreamReader, detector, encoder, make, stream

import hitrs_fast as hf
from training import detect, evaluate, pretrain
from training.checkpoint import load_checkpoint
from training.data.store import Store
from training.data.writer import write_store
from training.frame_scores import painted, read_frame_scores
from training.grouping import GroupingOptions, grouping_of
from training.metrics.pku_text import read_segments
from training.metrics.segments import GROUPINGS, Segments

SAME = ("map_a", "map_v", "map_a_present", "map_a_voc", "ap", "ap_2d", "f1", "edit", "f1_10", "f1_25", "f1_50")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """The encoder of a small run, which moves as the motion stream does."""
    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    return encoder(folder)


def run(store: Path, folder: Path, *options: str) -> None:
    detect.main(["--data", str(store), "--run", str(folder), "--device", "cpu", *options])


def figures(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def last_line(text: str) -> dict:
    return json.loads(text.splitlines()[-1])


@pytest.fixture(scope="module")
def finished(store, tiny, tmp_path_factory) -> Path:
    return detector(store, tiny, tmp_path_factory.mktemp("runs") / "whole")


def test_it_learns_and_says_so(store: Path, finished: Path) -> None:
    metrics = figures(finished)
    assert metrics["frame_acc"] > 0.9 and metrics["map_v"] > 0.8 and metrics["f1_50"] > 0.8
    assert metrics["background"] == pytest.approx((read_frame_scores(finished).labels == 0).mean(), abs=1e-5)
    names = {p.name for p in finished.iterdir()}
    assert names >= {"config.json", "model.safetensors", "heads.safetensors", "run.json", "log.jsonl", "metrics.json"}
    assert names >= {"scores.npz", "per_class.csv", "precision_recall.png", "timelines", "labels", "detections"}
    assert {p.name for p in (finished / "timelines").iterdir()} == {"s1.png", "s3.png", "s5.png"}
    assert hf.HiTRS.from_pretrained(finished).config.in_place
    recorded = json.loads((finished / "run.json").read_text())
    # 4, 5, 15 and 12 frames at 30 frames a second, of which this store has 8
    assert recorded["dilate"] == 1 and recorded["parts"]["train"] == 3
    assert recorded["grouping"] == {"method": "argmax", "smooth": 1, "gap": 4, "min_length": 3, "threshold": 0.0}


def test_evaluate_repeats_the_figures_from_the_text(finished: Path, capsys) -> None:
    folders = ["--truth", str(finished / "labels"), "--pred", str(finished / "detections")]
    evaluate.main(["detection", *folders, "--classes", "2"])
    again = last_line(capsys.readouterr().out)
    assert {name: again[name] for name in SAME} == pytest.approx({n: figures(finished)[n] for n in SAME}, abs=1e-5)
    truth = stream(5, 150).segments
    assert [(s, e) for _, s, e in truth] == list(
        zip(
            *(
                getattr(read_segments(finished / "labels" / "s5.txt", 2, True), key).tolist()
                for key in ("first", "end")
            ),
            strict=True,
        )
    )


def test_frame_scores_are_grouped_anew_and_fused(
    store: Path, tiny: Path, finished: Path, tmp_path: Path, capsys
) -> None:
    evaluate.main(["fuse-frames", str(finished)])
    again = last_line(capsys.readouterr().out)
    assert {name: again[name] for name in (*SAME, "frame_acc", "edit", "f1_10")} == {
        name: figures(finished)[name] for name in (*SAME, "frame_acc", "edit", "f1_10")
    }
    run(store, tmp_path / "other", "--init", str(tiny), "--epochs", "1", "--seeds", "3")
    runs = [str(finished), str(tmp_path / "other")]
    evaluate.main(["fuse-frames", *runs, "--method", "per-class", "--out", str(tmp_path / "fused")])
    capsys.readouterr()
    fused, one, two = (read_frame_scores(Path(path)) for path in (tmp_path / "fused", *runs))
    product = np.sqrt(one.probabilities.astype(float) * two.probabilities)
    np.testing.assert_allclose(fused.probabilities, product / product.sum(1, keepdims=True), atol=1e-6)
    assert fused.how() == GROUPINGS["per-class"]
    evaluate.main(["fuse-frames", *runs, "--softmax", "--weights", "3", "1", "--out", str(tmp_path / "mean")])
    mean = read_frame_scores(tmp_path / "mean").probabilities
    np.testing.assert_allclose(mean, 0.75 * one.probabilities + 0.25 * two.probabilities, atol=1e-6)


def test_what_does_not_match_is_not_fused(finished: Path, tmp_path: Path, capsys) -> None:
    scores = read_frame_scores(finished)
    labels = scores.labels.copy()
    labels[0] = 1
    changes = {"labels": labels, "names": scores.names[::-1], "classes": np.array(["background", "a", "b"])}
    for key, value in changes.items():
        np.savez(tmp_path / "other.npz", **scores._replace(**{key: value})._asdict())
        with pytest.raises(SystemExit) as stop:
            evaluate.main(["fuse-frames", str(finished), str(tmp_path / "other.npz")])
        assert stop.value.code == 2 and f"has other {key}" in capsys.readouterr().err
    wrong = scores.segments.copy()
    wrong[0, 0] = 99
    for key, value, message in (
        ("segments", wrong, "is in no recording"),
        ("segments", wrong[:, :2], "not [S, 4]"),
        ("lengths", scores.lengths[1:], "do not fit together"),
        ("fps", np.array(math.nan), "nan frames a second"),
        ("grouping", np.array("{}"), "does not say how its segments were made"),
    ):
        np.savez(tmp_path / "other.npz", **scores._replace(**{key: value})._asdict())
        with pytest.raises(SystemExit) as stop:
            evaluate.main(["fuse-frames", str(tmp_path / "other.npz")])
        assert stop.value.code == 2 and message in capsys.readouterr().err
    (tmp_path / "other.npz").write_bytes((finished / "scores.npz").read_bytes()[:500])
    for path, message in {tmp_path / "other.npz": "damaged", tmp_path / "none": "no frame scores"}.items():
        with pytest.raises(SystemExit) as stop:
            evaluate.main(["fuse-frames", str(finished), str(path)])
        assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_detector_is_tested_as_it_is(store: Path, finished: Path, tmp_path: Path) -> None:
    run(store, tmp_path / "same", "--test", "--init", str(finished))
    a, b = (read_frame_scores(folder) for folder in (finished, tmp_path / "same"))
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-6)
    assert {n: figures(finished)[n] for n in SAME} == {n: figures(tmp_path / "same")[n] for n in SAME}


def test_resume_is_bit_for_bit(store: Path, tiny: Path, tmp_path: Path) -> None:
    options = [
        "--init",
        str(tiny),
        "--epochs",
        "4",
        "--batch-size",
        "2",
        "--checkpoint-every",
        "6",
        "--preset",
        "small",
    ]
    run(store, tmp_path / "whole", *options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    steps = sorted((tmp_path / "cut" / "checkpoints").glob("step-*"))
    assert len(steps) > 1
    shutil.rmtree(steps[-1])
    (tmp_path / "cut" / "metrics.json").unlink()
    run(store, tmp_path / "cut", *options, "--resume")
    a, b = (load_checkpoint(tmp_path / name, torch.device("cpu"))["model"] for name in ("whole", "cut"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    scores = [read_frame_scores(tmp_path / name).probabilities for name in ("whole", "cut")]
    np.testing.assert_array_equal(*scores)


def test_fraction_held_out_streams_and_seeds(store: Path, tiny: Path, tmp_path: Path, capsys) -> None:
    options = [
        "--init",
        str(tiny),
        "--epochs",
        "1",
        "--fraction",
        "0.5",
        "--hold-out",
        "subjects:4",
        "--seeds",
        "0",
        "1",
    ]
    run(store, tmp_path / "run", *options)
    result = last_line(capsys.readouterr().out)
    each = [figures(tmp_path / "run" / f"seed-{seed}")["frame_acc"] for seed in (0, 1)]
    assert result["frame_acc"] == pytest.approx(np.mean(each)) == result["seeds"]["frame_acc"]["mean"]
    parts = json.loads((tmp_path / "run" / "seed-0" / "run.json").read_text())["parts"]
    assert (parts["train"], parts["test"], parts["hold out"]) == (1, 1, "subjects:4")
    assert read_frame_scores(tmp_path / "run" / "seed-0").names.tolist() == ["s4"]


@pytest.mark.parametrize("preset", ["paper", "authors"])
def test_presets(store: Path, tiny: Path, tmp_path: Path, preset: str) -> None:
    run(store, tmp_path / "run", "--init", str(tiny), "--preset", preset, "--epochs", "0.5")
    recipe = json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]
    assert recipe["optim"]["lr"] == 4e-4 and (recipe["optim"]["clip_norm"] is None) == (preset == "paper")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "xsub"], "has no split"),
        (["--fraction", "0"], "--fraction is 0"),
        (["--test"], "needs --init"),
        (["--test", "--init", "TINY"], "not a finished run of training.detect"),
        (["--init", "nowhere"], "nowhere"),
        (["--stream", "bone", "--init", "TINY"], "trained on the motion stream"),
        (["--hold-out", "subjects:99"], "no sample"),
        (["--seeds", "1", "1"], "--seeds"),
        (["--epochs", "0"], "--epochs"),
        (["--dilate", "0"], "--dilate"),
        (["--smooth", "-1"], "--smooth"),
        (["--gap", "-1"], "--gap"),
        (["--min-length", "0"], "--min-length"),
        (["--threshold", "1"], "--threshold"),
        (["--fps", "30"], "has 8 frames a second"),
        (["--dilate", "30"], "fewer than a window's 181"),
    ],
)
def test_bad_input_is_one_sentence(store: Path, tiny: Path, tmp_path: Path, capsys, options, message) -> None:
    options = [str(tiny) if o == "TINY" else o for o in options]
    with pytest.raises(SystemExit) as stop:
        run(store, tmp_path / "run", *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_stores_that_do_not_do(finished: Path, tmp_path: Path, capsys) -> None:
    test = ("--test", "--init", str(finished))
    reader = StreamReader(streams=2, frames=60)
    reader.samples[0].segments = [(0, 3, 9)]
    short = StreamReader(streams=2, frames=6)
    for sample in short.samples:
        sample.segments = [(1, 1, 3)]
    unlabelled = StreamReader(streams=2, frames=60)
    for sample in unlabelled.samples:
        sample.segments = []
    for number, (source, options, message) in enumerate([
        (short, (), "has 6 frames, fewer than a window's 7 (and so have 1 others)"),
        (StreamReader(streams=2, fps=math.nan), (), "give --fps"),
        (StreamReader(streams=2, fps=2.0), (), "give --dilate"),
        (StreamReader(streams=2, fps=12.0), test, "was trained at 8 frames a second"),
        (StreamReader(streams=2, classes=["background", "a", "b"]), test, "same ones in the same order"),
        (reader, (), "a segment of class 0"),
        (unlabelled, (), "no labelled segments"),
    ]):  # fmt: skip
        write_store(tmp_path / f"{number}.zarr", source)
        with pytest.raises(SystemExit) as stop:
            run(tmp_path / f"{number}.zarr", tmp_path / "run", *options)
        assert stop.value.code == 2 and message in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit) as stop:
        detect.main(["--device", "cpu"])
    assert stop.value.code == 2 and "--data STORE is needed" in capsys.readouterr().err


def test_grouping_of_a_run_stays_unless_another_method_is_named() -> None:
    before = grouping_of(GroupingOptions(gap=2), 8.0)
    assert (before.smooth, before.gap, before.min_length) == (1, 2, 3)
    assert grouping_of(GroupingOptions(smooth=0), 30.0, before).gap == 2
    assert grouping_of(GroupingOptions(method="per-class"), 30.0, before) == GROUPINGS["per-class"]
    assert grouping_of(GroupingOptions(), 30.0) == GROUPINGS["argmax"]


def test_the_surest_segment_is_painted_last() -> None:
    segments = Segments.of([(1, 0, 6, 0.9), (2, 2, 9, 0.5)])
    assert painted(segments, 10).tolist() == [1] * 6 + [2] * 3 + [0]


def test_pretraining_takes_another_dilate(store: Path, tmp_path: Path) -> None:
    options = [
        "--data",
        str(store),
        "--run",
        str(tmp_path / "pre"),
        "--device",
        "cpu",
        "--steps",
        "1",
        "--batch-size",
        "2",
    ]
    pretrain.main([*options, "--dilate", "1"])
    assert hf.HiTRS.from_pretrained(tmp_path / "pre").config.dilate == 1
    assert Store.open(store).fps == 8

"""python -m training.recognize, end to end on a store of short sequences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import hitrs_fast as hf
from training import pretrain, recognize
from training.checkpoint import load_checkpoint
from training.metrics.classes import softmax
from training.prepare import main as prepare
from training.scores import read_scores

CLASSES = ("still", "rising")


def arrays(path: Path, samples: int = 24, layout: str = "kinect20", **more: np.ndarray) -> Path:
    """Bodies that stand still or rise, seen in two views."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(16, 24, samples)
    labels = np.arange(samples) % 2
    parts = []
    body = rng.normal(size=(1, hf.LAYOUTS[layout].joints, 3))
    for length, label in zip(lengths, labels, strict=True):
        rise = np.linspace(0, 2 * label, length)[:, None, None] * [0, 1, 0]
        parts.append(body + rise + 0.02 * rng.normal(size=(length, 1, 3)))
    content = {
        "joints": np.concatenate(parts).astype("float32"), "lengths": lengths, "labels": labels,
        "label_names": np.array(CLASSES), "subjects": np.arange(samples) // 4 % 4,
        "views": 1 + np.arange(samples) // 2 % 2,
        "joint_names": np.array(hf.LAYOUTS[layout].joint_names), "parents": np.array(hf.LAYOUTS[layout].parents),
    }  # fmt: skip
    np.savez(path, **(content | more))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    raw = arrays(folder / "a.npz")
    prepare(["arrays", str(folder / "a.zarr"), "--raw", str(raw), "--split", "cross-view=views:1"])
    return folder / "a.zarr"


@pytest.fixture(scope="module")
def pretrained(store, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pre") / "run"
    options = ["--data", str(store), "--run", str(folder), "--batch-size", "4", "--device", "cpu", "--steps", "2"]
    pretrain.main(options)
    return folder


def run(store: Path, folder: Path, *options: str) -> None:
    defaults = ["--data", str(store), "--run", str(folder), "--batch-size", "4", "--device", "cpu"]
    recognize.main([*defaults, *options])


def figures(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(store, folder, "--epochs", "12")
    return folder


def test_it_learns_and_says_so(store: Path, finished: Path, capsys) -> None:
    metrics = figures(finished)
    assert metrics["top1"] == 1.0 and metrics["top5"] == 1.0 and metrics["mean_class"] == 1.0
    names = {p.name for p in finished.iterdir()}
    assert names >= {"config.json", "model.safetensors", "heads.safetensors", "run.json", "log.jsonl", "metrics.json"}
    assert names >= {"scores.npz", "predictions.csv", "per_class.csv", "confusion.csv", "confusion.png"}
    assert len(read_scores(finished).names) == 12
    recorded = json.loads((finished / "run.json").read_text())
    assert recorded["classes"] == list(CLASSES) and recorded["parts"]["train"] == 12


def test_the_test_protocol_repeats_the_scores(store: Path, finished: Path, tmp_path: Path) -> None:
    run(store, tmp_path / "test", "--protocol", "test", "--init", str(finished))
    np.testing.assert_allclose(read_scores(tmp_path / "test").logits, read_scores(finished).logits, atol=1e-5)


def test_predict_names_new_recordings(store: Path, finished: Path, tmp_path: Path, capsys, caplog) -> None:
    with np.load(store.parent / "a.npz") as content:
        joints = content["joints"][: content["lengths"][0]]
    rising = joints + np.linspace(0, 2, len(joints))[:, None, None] * np.array([0, 1, 0])
    np.save(tmp_path / "still.npy", joints)
    (tmp_path / "rising.json").write_text(json.dumps({"skeletons": rising.tolist()}))
    np.save(tmp_path / "short.npy", joints[:3])
    arrays(tmp_path / "three.npz", samples=3)
    files = [tmp_path / name for name in ("still.npy", "rising.json", "short.npy", "three.npz")]
    recognize.main(["--predict", str(finished), *map(str, files), "--device", "cpu"])
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    named = {r["name"]: r["action"] for r in result["recordings"]}
    assert len(named) == 6 and named["still"] == "still" and named["rising"] == "rising"
    assert result["latency_ms"] > 0 and "rising: rising 0." in printed.err
    assert "short has 3 frames" in caplog.text


def test_predict_cuts_long_recordings_as_the_loader_does(finished: Path, tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(3)
    walk = (rng.normal(size=(650, 20, 3)).cumsum(0) * 0.01).astype("float32")
    arrays(tmp_path / "a.npz", samples=3)
    with np.load(tmp_path / "a.npz") as content:
        short, more = content["joints"], dict(content)
    more |= {"joints": np.concatenate([short, walk]), "lengths": np.append(more["lengths"], 650)}
    more |= {"labels": np.array([0, 1, 0, 1]), "subjects": np.zeros(4, int), "views": np.array([1, 1, 1, 2])}
    np.savez(tmp_path / "a.npz", **more)
    prepare(["arrays", str(tmp_path / "a.zarr"), "--raw", str(tmp_path / "a.npz"), "--split", "cross-view=views:1"])
    run(tmp_path / "a.zarr", tmp_path / "test", "--protocol", "test", "--init", str(finished))
    np.save(tmp_path / "walk.npy", walk)
    recognize.main(["--predict", str(finished), str(tmp_path / "walk.npy"), "--device", "cpu"])
    [named] = json.loads(capsys.readouterr().out.splitlines()[-1])["recordings"]
    assert named["probability"] == pytest.approx(softmax(read_scores(tmp_path / "test").logits).max(), abs=1e-4)


def test_protocols_of_a_frozen_encoder(store: Path, pretrained: Path, tmp_path: Path) -> None:
    before = (pretrained / "model.safetensors").read_bytes()
    for protocol in ("linear", "knn"):
        run(store, tmp_path / protocol, "--protocol", protocol, "--init", str(pretrained))
        assert 0 <= figures(tmp_path / protocol)["top1"] <= 1
        with np.load(tmp_path / protocol / "features.npz") as features:
            assert features["test"].shape == (12, 256) and len(features["train"]) == 4 * 12
    assert (pretrained / "model.safetensors").read_bytes() == before


def test_semi_takes_the_stores_list_or_draws_one(store: Path, tmp_path: Path, caplog) -> None:
    for name, options in {"list": [], "drawn": ["--fraction", "0.4", "--labels", "per-class"]}.items():
        run(store, tmp_path / name, "--protocol", "semi", "--epochs", "1", *options)
    parts = {name: json.loads((tmp_path / name / "run.json").read_text())["parts"] for name in ("list", "drawn")}
    assert parts["list"]["train"] == 1 and parts["list"]["labels"].startswith("cross-view-10-uniform")
    assert parts["drawn"]["train"] == 6 and parts["drawn"]["labels"].startswith("cross-view-40-per-class")
    assert "cover 1 of 2 classes" in caplog.text


def test_align_is_kept_with_the_encoder_and_needs_centring(
    store: Path, pretrained: Path, tmp_path: Path, capsys
) -> None:
    run(store, tmp_path / "aligned", "--epochs", "1", "--align", "--init", str(pretrained))
    assert hf.HiTRS.from_pretrained(tmp_path / "aligned").config.align
    assert json.loads((tmp_path / "aligned" / "run.json").read_text())["recipe"]["augment"]["rotation"] == 30
    with pytest.raises(SystemExit) as end:
        run(store, tmp_path / "paper", "--align", "--preset", "paper")
    assert end.value.code == 2 and "align needs center" in capsys.readouterr().err


def test_hold_out_leaves_the_test_samples_alone(store: Path, tmp_path: Path) -> None:
    run(store, tmp_path / "held", "--hold-out", "subjects:0,1", "--epochs", "1", "--protocol", "knn")
    tested = set(read_scores(tmp_path / "held").names.tolist())
    parts = json.loads((tmp_path / "held" / "run.json").read_text())["parts"]
    assert len(tested) == parts["test"] > 0 and parts["hold out"] == "subjects:0,1"
    # views alternate every two samples, subjects every one: training samples of view 1 are 0, 1, 4, 5, ...
    assert {int(name[-6:]) // 2 % 2 for name in tested} == {0}


def test_several_seeds(store: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "seeds"
    run(store, folder, "--epochs", "1", "--seeds", "0", "1")
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    each = [figures(folder / f"seed-{seed}")["top1"] for seed in (0, 1)]
    assert result["top1"] == pytest.approx(np.mean(each)) and result["seeds"]["top1"]["mean"] == result["top1"]
    weights = [hf.HiTRS.from_pretrained(folder / f"seed-{seed}").clip_cls for seed in (0, 1)]
    assert not torch.equal(*weights)


def test_resume_is_bit_for_bit(store: Path, tmp_path: Path) -> None:
    options = ["--epochs", "4", "--checkpoint-every", "5"]
    run(store, tmp_path / "whole", *options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for path in (tmp_path / "cut" / "checkpoints").glob("step-*12"):
        shutil.rmtree(path)
    (tmp_path / "cut" / "metrics.json").unlink()
    run(store, tmp_path / "cut", *options, "--resume")
    a, b = (load_checkpoint(tmp_path / name, torch.device("cpu"))["model"] for name in ("whole", "cut"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert figures(tmp_path / "whole")["top1"] == figures(tmp_path / "cut")["top1"]


def test_a_finished_run_is_not_taken_for_another(store: Path, finished: Path, pretrained: Path, capsys) -> None:
    run(store, finished, "--epochs", "12", "--resume", "--checkpoint-every", "7")
    assert json.loads(capsys.readouterr().out) == figures(finished)
    for other, said in (
        (["--epochs", "3", "--align"], ["finished with another", "align (False, now True)", "epochs (12.0, now 3.0)"]),
        (["--epochs", "12", "--seeds", "1"], ["finished with another seed (0, now 1)"]),
        (["--epochs", "12", "--init", str(pretrained)], [f"another init (None, now {pretrained})"]),
    ):
        with pytest.raises(SystemExit) as stop:
            run(store, finished, *other, "--resume")
        message = capsys.readouterr().err
        assert stop.value.code == 2 and all(part in message for part in said)
    moved = ["--init", str(pretrained), "--override", f"init={pretrained}"]
    run(store, finished, "--epochs", "12", "--resume", *moved)


def test_a_folder_of_several_seeds_is_not_one_run(store: Path, tmp_path: Path, capsys) -> None:
    run(store, tmp_path / "run", "--protocol", "knn", "--seeds", "0", "1")
    with pytest.raises(SystemExit) as stop:
        run(store, tmp_path / "run", "--protocol", "knn", "--resume")
    assert stop.value.code == 2 and "several seeds" in capsys.readouterr().err


def test_presets_of_the_paper_and_the_authors(store: Path, tmp_path: Path) -> None:
    for preset in ("paper", "authors"):
        run(store, tmp_path / preset, "--preset", preset, "--epochs", "0.5")
        recipe = json.loads((tmp_path / preset / "run.json").read_text())["recipe"]
        assert recipe["bodies"] == {"paper": None, "authors": 2}[preset]


def test_joints_are_mapped_by_name(store: Path, pretrained: Path, tmp_path: Path, capsys) -> None:
    raw = arrays(tmp_path / "b.npz", layout="ntu25")
    prepare(["arrays", str(tmp_path / "b.zarr"), "--raw", str(raw), "--split", "cross-view=views:1"])
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "b.zarr", tmp_path / "run", "--init", str(pretrained))
    assert stop.value.code == 2 and "--map-joints" in capsys.readouterr().err
    run(tmp_path / "b.zarr", tmp_path / "run", "--init", str(pretrained), "--map-joints", "--epochs", "0.4")
    assert hf.HiTRS.from_pretrained(tmp_path / "run").config.layout.name == "kinect20"


def test_other_classes_are_refused(finished: Path, tmp_path: Path, capsys) -> None:
    raw = arrays(tmp_path / "b.npz", label_names=np.array(["still", "falling"]))
    prepare(["arrays", str(tmp_path / "b.zarr"), "--raw", str(raw)])
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "b.zarr", tmp_path / "run", "--protocol", "test", "--init", str(finished))
    assert stop.value.code == 2 and "same ones in the same order" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_split_without_a_class(tmp_path: Path, capsys) -> None:
    raw = arrays(tmp_path / "b.npz")
    prepare(["arrays", str(tmp_path / "b.zarr"), "--raw", str(raw), "--split", "odd=labels:0"])
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "b.zarr", tmp_path / "run")
    assert stop.value.code == 2 and "never trained: 'rising'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "xsub"], "has no split"),
        (["--protocol", "semi", "--fraction", "0"], "--fraction is 0"),
        (["--fraction", "0.5"], "--fraction is for"),
        (["--protocol", "test"], "needs --init"),
        (["--init", "nowhere"], "nowhere"),
        (["--stream", "bone", "--init", "PRETRAINED"], "trained on the joint stream"),
        (["--hold-out", "subjects:99"], "no sample"),
        (["--hold-out", "colour:1"], "colour"),
        (["--seeds", "1", "1"], "--seeds"),
        (["--epochs", "0"], "--epochs"),
        (["--lr", "0"], "--lr"),
        (["--k", "0"], "--k"),
        (["--label-smoothing", "1"], "--label-smoothing"),
        (["--preset", "authors", "--views", "3"], "--views"),
    ],
)
def test_bad_input_is_one_sentence(store: Path, pretrained: Path, tmp_path: Path, capsys, options, message) -> None:
    options = [str(pretrained) if o == "PRETRAINED" else o for o in options]
    with pytest.raises(SystemExit) as stop:
        run(store, tmp_path / "run", *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_recordings_that_cannot_be_named(finished: Path, pretrained: Path, tmp_path: Path, capsys) -> None:
    np.save(tmp_path / "empty.npy", np.zeros((9, 20, 3), "float32"))
    np.save(tmp_path / "wrong.npy", np.ones((9, 17, 3), "float32"))
    (tmp_path / "cut.json").write_text('{"skeletons": [[[1, 2')
    (tmp_path / "odd.json").write_text("[1, 2]")
    for name, message in {
        "empty.npy": "no body", "wrong.npy": "20 joints", "cut.json": "is cut", "odd.json": "list of frames",
        "none.npy": "no file", "a.txt": "no file",
    }.items():  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            recognize.main(["--predict", str(finished), str(tmp_path / name), "--device", "cpu"])
        assert stop.value.code == 2 and message in capsys.readouterr().err
    for run_folder in (pretrained, tmp_path):
        with pytest.raises(SystemExit) as stop:
            recognize.main(["--predict", str(run_folder), str(tmp_path / "empty.npy"), "--device", "cpu"])
        assert stop.value.code == 2 and "not a finished run" in capsys.readouterr().err

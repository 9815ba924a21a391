"""Files of scores, and their fusion over streams."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from training.data.records import DataError
from training.evaluate import main as evaluate
from training.metrics.classes import softmax
from training.scores import Scores, fused, read_scores, write_results

CLASSES = np.array(["sit", "stand", "walk"])


def scores(seed: int, samples: int = 7) -> Scores:
    rng = np.random.default_rng(seed)
    names = np.array([f"s{i}" for i in range(samples)])
    labels = np.arange(samples) % 3
    order = rng.permutation(samples)
    return Scores(names[order], rng.normal(size=(samples, 3)).astype(np.float32), labels[order], CLASSES)


def folder(path: Path, content: Scores) -> Path:
    path.mkdir()
    write_results(path, content)
    return path


def by_name(content: Scores) -> dict[str, np.ndarray]:
    return dict(zip(content.names.tolist(), content.logits, strict=True))


def test_results_can_be_read_again(tmp_path: Path) -> None:
    written = scores(0)
    run = folder(tmp_path / "run", written)
    assert all(np.array_equal(a, b) for a, b in zip(read_scores(run), written, strict=True))
    assert {p.name for p in run.iterdir()} >= {"scores.npz", "predictions.csv", "per_class.csv", "confusion.csv"}
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    for row, logits in zip(rows, written.logits, strict=True):
        assert row["named_1"] == CLASSES[logits.argmax()]
        assert float(row["probability_1"]) == pytest.approx(softmax(logits[None])[0].max(), abs=1e-4)
    matrix = [row[1:] for row in csv.reader((run / "confusion.csv").open())][1:]
    assert sum(int(n) for row in matrix for n in row) == 7


@pytest.mark.parametrize("use_softmax", [False, True])
@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_fusion_is_a_mean_by_name(tmp_path: Path, use_softmax: bool, weights: list[float] | None) -> None:
    a, b = scores(1), scores(2)
    paths = [folder(tmp_path / "a", a), folder(tmp_path / "b", b)]
    result = fused(paths, weights, use_softmax)
    own, other = weights or [1.0, 1.0]
    for name, logits in by_name(result).items():
        parts = [by_name(s)[name][None] for s in (a, b)]
        if use_softmax:
            parts = [softmax(x) for x in parts]
            logits = np.exp(logits)
        assert logits == pytest.approx(((own * parts[0] + other * parts[1]) / (own + other))[0], rel=1e-5, abs=1e-6)
    assert result.labels.tolist() == a.labels.tolist()


def test_the_command(tmp_path: Path, capsys) -> None:
    paths = [str(folder(tmp_path / str(n), scores(n))) for n in range(3)]
    evaluate(["fuse", *paths, "--out", str(tmp_path / "out")])
    result = json.loads(capsys.readouterr().out)
    assert 0 <= result["top1"] <= 1 and result["samples"] == 7
    assert read_scores(tmp_path / "out").names.tolist() == scores(0).names.tolist()


def test_other_samples_labels_or_classes_are_refused(tmp_path: Path) -> None:
    good = scores(0)
    first = folder(tmp_path / "good", good)
    bad = {
        "other samples": scores(1, samples=8),
        "other labels": good._replace(labels=(good.labels + 1) % 3),
        "other classes": good._replace(classes=CLASSES[::-1]),
    }
    for number, (message, content) in enumerate(bad.items()):
        with pytest.raises(DataError, match=message):
            fused([first, folder(tmp_path / str(number), content)], None, False)
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0]):
        with pytest.raises(DataError, match="--weights"):
            fused([first, first], weights, False)


def test_no_scores(tmp_path: Path, capsys) -> None:
    (tmp_path / "scores.npz").write_bytes(b"cut")
    for where, message in ((tmp_path, "damaged"), (tmp_path / "none", "no scores")):
        with pytest.raises(DataError, match=message):
            read_scores(where)
    with pytest.raises(SystemExit) as stop:
        evaluate(["fuse", str(tmp_path)])
    assert stop.value.code == 2 and "two or more" in capsys.readouterr().err

"""The examples of docs/drop_in.md, one after another as a reader would type them."""

from __future__ import annotations

from pathlib import Path

import torch
from doc_examples import run_examples

DOC = Path(__file__).parents[1] / "docs" / "drop_in.md"


def test_examples_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_examples(DOC.read_text())
    assert names["features"].shape == (4, 2, 64, 1, 1) and names["clips"].shape == (4, 2, 32, 6, 1)
    assert names["joints"].shape == (4, 2, 16, 40, 25) and names["logits"].shape == (4, 60)
    assert torch.isfinite(names["logits"]).all()

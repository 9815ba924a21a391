"""The training and validation curves of a run as a picture: `python -m bench.curves RUN OUT.png`."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from training.report import RunFolder, read_run

PANELS = {
    "pose_mm": "pose error (mm)",
    "clip_acc": "clip order accuracy",
    "video_acc": "video order accuracy",
    "retrieval_acc": "last-clip retrieval accuracy",
}
CHANCE = {"clip_acc": 0.5, "video_acc": 0.5}


def curves(run: RunFolder) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """(split, metric) -> (step, value), from the run's log."""
    found = defaultdict(list)
    for record in run.log:
        for name in PANELS:
            if name in record:
                found[record["split"], name].append((record["step"], record[name]))
    return found


def draw(run: Path, out: Path) -> None:
    from matplotlib.figure import Figure

    record = read_run(run)
    found, batch = curves(record), record.record["recipe"]["batch_size"]
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for split, style in (("train", "-"), ("validation", "o-")):
            steps, values = zip(*found[split, name], strict=True)
            axes.plot(steps, values, style, markersize=3, label=split)
        if name != "pose_mm":
            axes.axhline(CHANCE.get(name, 1 / batch), color="grey", linestyle=":", label="chance")
            axes.set_ylim(0, 1)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    draw(Path(sys.argv[1]), Path(sys.argv[2]))

"""A `.skeleton` file read line by line: the baselines of `test_data.py`, and files to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FIELDS = "x y z depth_x depth_y colour_x colour_y turn_w turn_x turn_y turn_z state".split()


def read_all(path: Path) -> np.ndarray:
    """All appearances of bodies `[N, 25, 3]`, every value of every line converted: the usual reader."""
    found = []
    with path.open() as file:
        for _ in range(int(file.readline())):
            for _ in range(int(file.readline())):
                file.readline()
                values = [map(float, file.readline().split()) for _ in range(int(file.readline()))]
                found.append([dict(zip(FIELDS, joint, strict=True)) for joint in values])
    return np.array([[[joint["x"], joint["y"], joint["z"]] for joint in body] for body in found], np.float32)


def read_some(path: Path) -> np.ndarray:
    """The same, with no value converted but x y z."""
    found = []
    with path.open() as file:
        for _ in range(int(file.readline())):
            for _ in range(int(file.readline())):
                file.readline()
                joints = int(file.readline())
                found.append([[float(v) for v in file.readline().split()[:3]] for _ in range(joints)])
    return np.array(found, np.float32)


def write_files(folder: Path, lengths: np.ndarray) -> list[Path]:
    """One recording of one body for each length, in NTU's format and with as many digits."""
    rng, files = np.random.default_rng(0), []
    for number, frames in enumerate(lengths.tolist()):
        walk = rng.normal(0, 0.3, (25, 3)) + rng.normal(0, 0.008, (frames, 25, 3)).cumsum(0) + [0, 0, 3]
        others = rng.normal(0, 0.5, (frames, 25, 4))
        lines = [str(frames)]
        for pose, turns in zip(walk.tolist(), others.tolist(), strict=True):
            lines += ["1", f"{72057594037931101 + number} 0 1 1 0 0 0 -0.1784 0.02534 2", "25"]
            for (x, y, z), turn in zip(pose, turns, strict=True):
                picture = f"{256 + 70 * x:.4f} {212 - 70 * y:.4f} {960 + 200 * x:.4f} {540 - 200 * y:.4f}"
                lines.append(f"{x:.7g} {y:.7g} {z:.7g} {picture} {' '.join(f'{v:.7g}' for v in turn)} 2")
        path = folder / f"S001C001P{1 + number // 60 % 40:03}R{1 + number // 2400:03}A{1 + number % 60:03}.skeleton"
        path.write_bytes("\r\n".join(lines).encode() + b"\r\n")
        files.append(path)
    return files

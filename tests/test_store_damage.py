"""No damage to a store goes unseen, and none is read as data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from store_cases import files_of, make, read_everything
from store_cases import synced as synced  # a fixture

from training.data.check import check_store
from training.data.manifest import MANIFEST, write_manifest
from training.data.records import DataError
from training.data.store import Store


def flip(file: Path, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1 << bit
    file.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flip": flip,
    "truncate": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "delete": lambda file: file.unlink(),
    "grow": lambda file: file.write_bytes(file.read_bytes() + b"\n"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_any_file_is_found_and_never_read(tmp_path: Path, kind: str) -> None:
    whole = make(tmp_path)
    files = files_of(whole)
    assert len(files) > 40
    for file in files:
        good = file.read_bytes()
        DAMAGE[kind](file)
        problems = check_store(whole)
        assert any(file.name in p for p in problems), f"{file}: {problems}"
        with pytest.raises(DataError, match=r"damaged|missing|cannot be read|no manifest"):
            Store.open(whole) if kind != "flip" else read_everything(whole)
        file.write_bytes(good)
    assert check_store(whole) == []


@pytest.mark.parametrize("kind", ["flip", "truncate", "empty", "delete"])
def test_damage_after_opening_is_an_error_that_names_the_file(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path)
    for name in ("frames/c/1/0/0", "confidence/c/4/0", "sequence_offsets/c/0"):
        store = Store.open(path)
        good = (path / name).read_bytes()
        DAMAGE[kind](path / name)
        with pytest.raises(DataError, match=name):
            store.read_frames(), store.read_confidence(), store.offsets
        (path / name).write_bytes(good)


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    file = make(tmp_path) / MANIFEST
    good = file.read_bytes()
    json.loads(good)
    rng = np.random.default_rng(0)
    for place in [0, 1, len(good) - 1, len(good) - 2, *rng.integers(0, len(good), 60)]:
        data = bytearray(good)
        data[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(data)
        with pytest.raises(DataError, match="damaged"):
            Store.open(file.parent)


def test_exchanged_chunks_and_unexpected_files_are_found(tmp_path: Path) -> None:
    path = make(tmp_path)
    one, two = path / "sample_subject/c/0", path / "sample_camera/c/0"
    assert one.stat().st_size == two.stat().st_size
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    assert len(check_store(path)) == 2
    two.write_bytes(one.read_bytes())
    one.write_bytes(data)
    (path / "frames" / "c" / "9").write_bytes(b"")
    with pytest.raises(DataError, match="c/9 is not in the manifest"):
        Store.open(path)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        Store.open(tmp_path / "nothing")
    with pytest.raises(DataError, match="did not finish"):
        Store.open(tmp_path)
    assert len(check_store(tmp_path / "nothing")) == 1


def test_the_check_finds_wrong_counts_and_indices_under_a_fitting_manifest(tmp_path: Path) -> None:
    wrongs = [
        ("sequence_offsets", [0, 3, 2, 11, 15, 17, 23]),
        ("sequence_offsets", [0, 3, 10, 10, 15, 17, 23]),
        ("sequence_offsets", [0, 3, 10, 11, 15, 17, 22]),
        ("sequence_sample", [0, 0, 1, 2, 2, 4]),
        ("sequence_sample", [0, 0, 1, 2, 2, 2]),
        ("sequence_first_frame", [0, 1, 0, 0, 10, 0]),
        ("sample_label", [0, 1, -1, 2]),
        ("sample_frames", [7, 1, 11, 6]),
        ("segments", [[3, 0, 0, 3], [3, 1, 2, 7]]),
        ("segments", [[3, 0, 0, 3], [4, 1, 2, 6]]),
        ("segments", [[3, 0, 0, 3], [3, 2, 2, 6]]),
        ("segments", [[3, 0, 0, 3], [3, 1, 6, 6]]),
        ("frames", np.full((23, 3, 3), np.inf)),
    ]
    path = make(tmp_path)
    counts = Store.open(path).counts
    for number, (name, values) in enumerate(wrongs):
        copy = tmp_path / str(number)
        shutil.copytree(path, copy)
        zarr.open_group(copy, mode="r+")[name][...] = np.array(values)
        (copy / MANIFEST).unlink()
        write_manifest(copy, counts)
        assert check_store(copy), (name, values)
    write_manifest(path, counts | {"sequences": 5})
    assert check_store(path)

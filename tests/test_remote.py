"""Stores in object stores: the same frames, the same refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import obstore
import pytest
import torch
from obstore.store import LocalStore, MemoryStore, ObjectStore

from hitrs_fast.clips import Windows
from training.data.check import check_store
from training.data.loader import Loader
from training.data.manifest import list_files
from training.data.records import DataError
from training.data.store import Store
from training.data.stream import Stream
from training.data.synthetic import DemoReader
from training.data.writer import write_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remote") / "demo.zarr"
    write_store(path, DemoReader(20), chunk_frames=500)
    return path


def in_memory(folder: Path) -> ObjectStore:
    bucket = MemoryStore()
    for name in list_files(folder):
        obstore.put(bucket, name, (folder / name).read_bytes())
    return bucket


def local(folder: Path) -> ObjectStore:
    return LocalStore(folder)


@pytest.mark.parametrize("place", [in_memory, local, lambda folder: folder.as_uri()], ids=["memory", "local", "url"])
def test_it_reads_as_the_folder_does(folder: Path, place: Callable[[Path], ObjectStore | str]) -> None:
    here, there = Store.open(folder), Store.open(place(folder))
    assert here.fingerprint == there.fingerprint and here.names == there.names
    assert np.array_equal(here.read_frames(), there.read_frames())
    assert check_store(place(folder)) == []
    chosen = np.arange(there.counts["sequences"])
    stream = Stream(there, chosen, torch.device("cpu"), 0)
    data = Loader(stream, there.offsets, chosen, Windows(7, 7, 2), 4, None, 0)
    plan = data.plan(0)
    frames = [
        data.batch(plan, i).frames[: int(plan.length[plan.bounds[i] : plan.bounds[i + 1]].sum())]
        for i in range(len(plan))
    ]
    assert np.array_equal(torch.cat(frames).numpy(), here.read_frames())
    stream.close()


@pytest.mark.parametrize("kind", ["flip", "cut", "empty", "delete"])
def test_damage_is_found_and_never_read(folder: Path, kind: str) -> None:
    for name in list_files(folder):
        bucket = in_memory(folder)
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        changed = {"flip": bytes(data), "cut": bytes(data[:-1]), "empty": b""}
        obstore.delete(bucket, name) if kind == "delete" else obstore.put(bucket, name, changed[kind])
        assert any(name in problem for problem in check_store(bucket)), name
        if "/c/" not in name or kind != "flip":
            with pytest.raises(DataError, match=r"damaged|no manifest"):
                Store.open(bucket)


def test_damage_after_opening_is_an_error(folder: Path) -> None:
    for change in (lambda b, n: obstore.delete(b, n), lambda b, n: obstore.put(b, n, b"nonsense")):
        bucket = in_memory(folder)
        store = Store.open(bucket)
        change(bucket, "frames/c/1/0/0")
        with pytest.raises(DataError, match="frames/c/1/0/0"):
            store.read_frames()


def test_what_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json"):
        Store.open(MemoryStore())
    with pytest.raises(DataError, match="bogus://x"):
        Store.open("bogus://x")
    with pytest.raises(DataError, match="nothing"):
        Store.open((tmp_path / "nothing").as_uri())

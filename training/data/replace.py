"""A folder that appears whole or not at all: built as `NAME.partial` beside its place, renamed when complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .manifest import MANIFEST, sync_folder
from .records import DataError

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
log = logging.getLogger(__name__)


@contextlib.contextmanager
def new_store(target: Path, overwrite: bool) -> Iterator[Path]:
    """An empty folder to fill; when the block ends it takes the place of `target`, on any error it is removed.

    `target` is absolute. With `overwrite` a store already there stays until the new one is complete. DataError where
    something else is there, or where another process is making the same store.
    """
    made = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(_beside(target, "partial")) as partial:
            _finish_interrupted_swap(target)
            _refuse_existing(target, overwrite)
            _empty(partial)
            yield partial
            _refuse_existing(target, overwrite)
            _swap(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: something else has moved in
            for parent in made:
                parent.rmdir()
        raise


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f"{target.name}.{ending}")


@contextlib.contextmanager
def _locked(partial: Path) -> Iterator[Path]:
    """The folder `partial`, held by this process alone; it is removed in the end unless it was renamed.

    The lock goes with the process, so that a folder left by a killed one is free.
    """
    partial.mkdir(exist_ok=True)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        # The former holder may have renamed or removed the folder between our open and our lock.
        if not _lock(descriptor, partial) or not _is_still(descriptor, partial):
            raise DataError(f"{partial}: another process is writing this store; wait for it, or stop it")
        try:
            yield partial
        finally:
            if _is_still(descriptor, partial):
                shutil.rmtree(partial)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, partial: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks; let no second process write the same store", partial)
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise DataError(f"{target} exists already; give --overwrite to replace it, or another name")
    if not (target / MANIFEST).is_file() and not (target / "zarr.json").is_file():
        raise DataError(f"{target} is not a store, so --overwrite does not replace it; give another name")


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _swap(partial: Path, target: Path) -> None:
    """Two renames where there is an old store: a folder cannot be renamed over one that is not empty."""
    old = _beside(target, "replaced")
    try:
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        _finish_interrupted_swap(target)
    sync_folder(target.parent)


def _finish_interrupted_swap(target: Path) -> None:
    """The old store is put back where the new one did not arrive, and removed where it did."""
    old = _beside(target, "replaced")
    if not old.exists():
        return
    if target.exists():
        shutil.rmtree(old)
    else:
        old.rename(target)

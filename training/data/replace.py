"""A store that appears whole or not at all: built in the work folder `NAME.partial` beside its place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .journal import JOURNAL, STORE
from .manifest import MANIFEST, sync_folder
from .records import DataError

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
log = logging.getLogger(__name__)


@contextlib.contextmanager
def new_store(target: Path, overwrite: bool) -> Iterator[Path]:
    """The work folder; when the block ends its `store` takes the place of `target`, and the work folder is removed.

    After an error it stays if it has a journal, for the next conversion to go on with. `target` is absolute. With
    `overwrite` a store already there stays until the new one is complete. DataError where something else is there, or
    where another process is making the same store.
    """
    made = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(_beside(target, "partial")) as work:
            _finish_interrupted_swap(target)
            _refuse_existing(target, overwrite)
            yield work
            _refuse_existing(target, overwrite)
            _swap(work / STORE, target)
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: something else has moved in
            for parent in made:
                parent.rmdir()
        raise


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f"{target.name}.{ending}")


@contextlib.contextmanager
def _locked(work: Path) -> Iterator[Path]:
    """The folder `work`, held by this process alone; it is removed in the end, unless it can be gone on with.

    The lock goes with the process, so that a folder left by a killed one is free.
    """
    work.mkdir(exist_ok=True)
    descriptor = os.open(work, os.O_RDONLY)
    try:
        # The former holder may have removed the folder between our open and our lock.
        if not _lock(descriptor, work) or not _is_still(descriptor, work):
            raise DataError(f"{work}: another process is writing this store; wait for it, or stop it")
        try:
            yield work
        finally:
            if (work / JOURNAL).exists() and (work / STORE).exists():
                log.info("%s holds what is finished: the same command goes on from there", work)
            else:
                shutil.rmtree(work)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, work: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks; let no second process write the same store", work)
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


def _swap(new: Path, target: Path) -> None:
    """Two renames where there is an old store: a folder cannot be renamed over one that is not empty."""
    old = _beside(target, "replaced")
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
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

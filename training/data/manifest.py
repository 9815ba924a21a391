"""The list of a store's files with sizes and checksums, which tells a finished, undamaged store from any other folder.

A file's checksum is zlib's CRC-32. It is not crc32c, because each chunk file ends with its own crc32c, and the
crc32c of such a file is one constant whatever it holds: exchanged chunks would go unseen.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .places import Folder, Place, place_of
from .records import DataError

MANIFEST = "manifest.json"
FORMAT = "hitrs_fast store"
VERSION = 1
_SEAL = b',\n "checksum": "'


@dataclass(frozen=True)
class Manifest:
    """`files`: path within the store, with / -> (size in bytes, CRC-32); `counts`: what -> how many."""

    files: dict[str, tuple[int, int]]
    counts: dict[str, int]
    checksum: str  # "sha256:..." of everything before it, and so a fingerprint of the whole store


def write_manifest(folder: Path, counts: dict[str, int], kind: str = FORMAT) -> str:
    """Flush every file in `folder` to the disk, then write the manifest and return its checksum."""
    files = {name: sync_and_measure(folder / name) for name in list_files(folder)}
    body = json.dumps({"format": kind, "version": VERSION, "counts": counts, "files": files}, indent=1)
    path = folder / MANIFEST
    with path.open("wb") as file:
        file.write(_sealed(body.encode()))
        file.flush()
        os.fsync(file.fileno())
    for parent, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(parent))
    return _digest(body.encode())


def read_manifest(where: Path | Place, kind: str = FORMAT) -> Manifest:
    """The manifest of a store, or of what `kind` says. DataError where it is missing, damaged or of another kind."""
    place = place_of(where)
    if not place.has(MANIFEST):
        place.sizes()  # has a sentence for a folder that is not there
        raise DataError(f"{place} has no {MANIFEST}: it is not a store, or its conversion did not finish")
    data = place.read(MANIFEST)
    body = data.rpartition(_SEAL)[0] + b"\n}"
    if data != _sealed(body):
        raise DataError(
            f"{place}: {MANIFEST} is damaged (its own checksum does not fit); convert the data again with --overwrite"
        )
    content = json.loads(body)
    if content["format"] != kind or content["version"] != VERSION:
        found = f"{content['format']} version {content['version']}"
        raise DataError(f"{place} is a {found}, this package reads {kind} version {VERSION}; convert the data again")
    files = {name: (size, crc) for name, (size, crc) in content["files"].items()}
    return Manifest(files, content["counts"], _digest(body))


def file_problems(where: Path | Place, manifest: Manifest, read: Callable[[str], bool]) -> list[str]:
    """What differs between the files of `where` and the manifest; contents are read where `read(name)` is true."""
    place = place_of(where)
    found = place.sizes()
    problems = [f"{name} is not in the manifest" for name in sorted(found.keys() - manifest.files.keys() - {MANIFEST})]
    for name, (size, crc) in sorted(manifest.files.items()):
        if name not in found:
            problems.append(f"{name} is missing")
        elif found[name] != size:
            problems.append(f"{name} has {found[name]} bytes instead of {size}")
        elif read(name) and place.crc(name) != crc:
            problems.append(f"{name} is damaged (its checksum differs)")
    return problems


def list_files(folder: Path) -> list[str]:
    """Every file below `folder`, sorted, as paths within it with / between the parts."""
    paths = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sealed(body: bytes) -> bytes:
    return body.removesuffix(b"\n}") + _SEAL + _digest(body).encode() + b'"\n}\n'


def _digest(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def sync_and_measure(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file, once its bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.stat().st_size, Folder(path.parent).crc(path.name)

"""The list of a store's files with sizes and checksums, which tells a finished, undamaged store from any other folder.

A file's checksum is zlib's CRC-32. It is not crc32c, because each chunk file ends with its own crc32c, and the
crc32c of such a file is one constant whatever it holds: exchanged chunks would go unseen.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .records import DataError

MANIFEST = "manifest.json"
FORMAT = "hitrs_fast store"
VERSION = 1
_BLOCK = 1 << 20
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


def read_manifest(folder: Path, kind: str = FORMAT) -> Manifest:
    """The manifest of a store, or of what `kind` says. DataError where it is missing, damaged or of another kind."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no store (no such folder)")
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} has no {MANIFEST}: it is not a store, or its conversion did not finish")
    data = path.read_bytes()
    body = data.rpartition(_SEAL)[0] + b"\n}"
    if data != _sealed(body):
        raise DataError(f"{path} is damaged (its own checksum does not fit); convert the data again with --overwrite")
    content = json.loads(body)
    if content["format"] != kind or content["version"] != VERSION:
        found = f"{content['format']} version {content['version']}"
        raise DataError(f"{folder} is a {found}, this package reads {kind} version {VERSION}; convert the data again")
    files = {name: (size, crc) for name, (size, crc) in content["files"].items()}
    return Manifest(files, content["counts"], _digest(body))


def file_problems(folder: Path, manifest: Manifest, read: Callable[[str], bool]) -> list[str]:
    """What differs between the files in `folder` and the manifest; contents are read where `read(name)` is true."""
    found = set(list_files(folder)) - {MANIFEST}
    problems = [f"{name} is not in the manifest" for name in sorted(found - manifest.files.keys())]
    for name, (size, crc) in sorted(manifest.files.items()):
        if name not in found:
            problems.append(f"{name} is missing")
        elif (actual := (folder / name).stat().st_size) != size:
            problems.append(f"{name} has {actual} bytes instead of {size}")
        elif read(name) and _crc(folder / name) != crc:
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
    return path.stat().st_size, _crc(path)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _crc(path: Path) -> int:
    crc = 0
    for block in _blocks(path):
        crc = zlib.crc32(block, crc)
    return crc

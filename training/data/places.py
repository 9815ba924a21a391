"""Where a store's files are: a folder, or a bucket of an object store (S3, GCS, Azure, HTTP), for reading.

Buckets need the extra `remote`: obstore.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import zarr

from .records import DataError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

BLOCK = 1 << 20


class Place(Protocol):
    """`str(place)` names it in messages. Names of files have / between their parts."""

    def sizes(self) -> dict[str, int]:
        """Every file, with its size in bytes."""

    def read(self, name: str) -> bytes: ...

    def crc(self, name: str) -> int:
        """The CRC-32 of a file."""

    def has(self, name: str) -> bool: ...

    def group(self) -> zarr.Group:
        """For reading."""


def place_of(where: str | Path | ObjectStore | Place) -> Place:
    """A folder for a path, a bucket for a URL or for a store of obstore's. DataError for a URL that means nothing."""
    if isinstance(where, Folder | Bucket):
        return where
    if isinstance(where, Path) or (isinstance(where, str) and "://" not in where):
        return Folder(Path(where))
    if isinstance(where, str):
        return Bucket(_from_url(where), where)
    return Bucket(cast("ObjectStore", where), repr(where))


def _from_url(url: str) -> ObjectStore:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise DataError(f"{url}: object stores need obstore (pip install 'hitrs-fast[remote]')") from None
    try:
        return from_url(url)
    except (BaseError, OSError, ValueError) as error:
        raise DataError(f"{url}: {_first_line(error)}") from None


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def sizes(self) -> dict[str, int]:
        if not self.path.is_dir():
            raise DataError(f"{self.path}: there is no store (no such folder)")
        files = (file for file in self.path.rglob("*") if file.is_file())
        return {file.relative_to(self.path).as_posix(): file.stat().st_size for file in files}

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def crc(self, name: str) -> int:
        crc = 0
        with (self.path / name).open("rb") as file:
            while block := file.read(BLOCK):
                crc = zlib.crc32(block, crc)
        return crc

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def group(self) -> zarr.Group:
        return zarr.open_group(self.path, mode="r", zarr_format=3, use_consolidated=False)


class Bucket:
    """Keys and locations come from the environment, as obstore's documentation tells."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store, self._name = store, name

    def __str__(self) -> str:
        return self._name

    def sizes(self) -> dict[str, int]:
        import obstore

        return {entry["path"]: entry["size"] for entry in self._asked(lambda: obstore.list(self._store).collect())}

    def read(self, name: str) -> bytes:
        import obstore

        return self._asked(lambda: bytes(obstore.get(self._store, name).bytes()))

    def crc(self, name: str) -> int:
        return zlib.crc32(self.read(name))

    def has(self, name: str) -> bool:
        import obstore

        try:
            self._asked(lambda: obstore.head(self._store, name))
        except FileNotFoundError:
            return False
        return True

    def group(self) -> zarr.Group:
        from zarr.storage import ObjectStore

        return zarr.open_group(
            ObjectStore(self._store, read_only=True), mode="r", zarr_format=3, use_consolidated=False
        )

    def _asked(self, question: Callable[[], Any]) -> Any:
        """DataError where the object store gives no answer, FileNotFoundError where the file is not there."""
        from obstore.exceptions import BaseError

        try:
            return question()
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise DataError(f"{self._name}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

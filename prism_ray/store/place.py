"""Where a store lies: a folder, or a prefix of a bucket (S3 and what speaks its protocol, Google Cloud Storage).

A `RemoteFolder` has of `pathlib.Path` what reading a store needs. Bytes come by ranges, through Arrow's own clients:
whoever reads some columns of some row groups fetches those and no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from prism_ray.errors import Fault, StoreError
from prism_ray.features.urls import is_remote, shown

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_CONNECT_S, _REQUEST_S = 10, 60
_CREDENTIALS = {
    "s3": "this machine and every node need AWS credentials that may list and read it, and with a server of your own "
    "AWS_ENDPOINT_URL",
    "gs": "this machine and every node need Google credentials that may list and read it",
}


@dataclass(frozen=True)
class RemoteFolder:
    """A folder, or a file, in a bucket.

    Attributes:
        url: `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`; checked when something is read.
    """

    url: str

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return shown(self.url)

    def absolute(self) -> RemoteFolder:
        """Itself: an address does not depend on a working folder."""
        return self

    def check(self) -> None:
        """Refuse an address that no store can be read from; nobody is asked.

        Raises:
            StoreError: with what is wrong with it.
        """
        _parts(self.url)

    def exists(self) -> bool:
        """Whether there is such an object, or one below it.

        Raises:
            StoreError: it cannot be told, for example without credentials.
        """
        return bool(self._info().type != pafs.FileType.NotFound)

    def is_dir(self) -> bool:
        """Whether objects lie below it; raises as `exists`."""
        return bool(self._info().type == pafs.FileType.Directory)

    def is_file(self) -> bool:
        """Whether it is an object; raises as `exists`."""
        return bool(self._info().type == pafs.FileType.File)

    def read_text(self, encoding: str) -> str:
        """All of its text.

        Raises:
            StoreError: it cannot be read.
        """
        with self.opened() as stream:
            return bytes(stream.readall()).decode(encoding)

    def sizes(self) -> dict[str, int]:
        """Bytes of every object below it, by its path from here; one request a thousand.

        Raises:
            StoreError: they cannot be listed.
        """
        files, path = _connected(self.url)
        with self.in_words():
            found = files.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
        return {info.path[len(path) + 1 :]: info.size for info in found if info.type == pafs.FileType.File}

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """An Arrow file that reads by ranges (`read_at`) and may be used by several threads.

        Raises:
            StoreError: it cannot be opened, or not be read inside the block.
        """
        files, path = _connected(self.url)
        with self.in_words(), files.open_input_file(path) as stream:
            yield stream

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """What Arrow's client raises in the block, said as a fault of this place."""
        try:
            yield
        except (OSError, pa.ArrowException) as problem:
            scheme = urlsplit(self.url).scheme
            fault = Fault(str(self), f"cannot be read ({_first_line(problem)})", _CREDENTIALS.get(scheme, ""))
            raise StoreError(str(fault), [fault]) from None

    def _info(self) -> Any:
        files, path = _connected(self.url)
        with self.in_words():
            return files.get_file_info(path)


StorePlace: TypeAlias = Path | RemoteFolder


def place_of(text: str | os.PathLike[str] | RemoteFolder) -> StorePlace:
    """The folder of a path, or the remote one of a URL."""
    if isinstance(text, RemoteFolder):
        return text
    return RemoteFolder(str(text)) if isinstance(text, str) and is_remote(text) else Path(text)


def _first_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def _connected(url: str) -> tuple[Any, str]:
    """Arrow's file system of a URL, and the path in it."""
    scheme, bucket, key = _parts(url)
    return _client(scheme, bucket, tuple(map(os.environ.get, (*_ENDPOINTS, *_REGIONS)))), f"{bucket}/{key}"


@lru_cache(maxsize=8)
def _parts(url: str) -> tuple[str, str, str]:
    """Scheme, bucket and key of a URL.

    Raises:
        StoreError: it is none that a store can be read from.
    """
    parts = urlsplit(url)
    bucket, key = parts.netloc, str(PurePosixPath(parts.path)).strip("/.")
    problem = ""
    if parts.scheme not in ("s3", "gs"):
        problem = f"stores are not read from {parts.scheme}://"
    elif "@" in bucket:
        problem = "holds credentials, which would be kept with the study: they come from the environment"
    elif not bucket or not key or parts.query or parts.fragment:
        problem = "names no folder of a bucket"
    if problem:
        fault = Fault(shown(url), problem, "give a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER")
        raise StoreError(str(fault), [fault])
    return parts.scheme, bucket, key


@lru_cache(maxsize=8)
def _client(scheme: str, bucket: str, environment: tuple[str | None, ...]) -> Any:
    """Arrow's client of a bucket; one a process."""
    if scheme == "gs":
        return pafs.GcsFileSystem()
    endpoint = environment[0] or environment[1]
    region = environment[2] or environment[3]
    settings: dict[str, Any] = {"connect_timeout": _CONNECT_S, "request_timeout": _REQUEST_S}
    if endpoint:
        where = urlsplit(endpoint)
        settings |= {"endpoint_override": where.netloc + where.path.rstrip("/"), "scheme": where.scheme}
    elif region is None:
        with RemoteFolder(f"s3://{bucket}").in_words():
            region = pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(region=region, **settings)

"""Files of a catalog that lie elsewhere: fetched once into a cache on this machine.

A file in the cache keeps its name, in a folder named after its URL. Beside it lies a note of what was fetched, written
last: a file without a note that fits it is fetched again. Index files that may lie beside the original are not fetched.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.remote_files import blocks
from prism_ray.features.urls import is_remote, shown, why_refused
from prism_ray.features.windows import refuse

if TYPE_CHECKING:
    from prism_ray.features.sources import Catalog

CACHE_VARIABLE = "PRISM_RAY_CACHE"
Progress = Callable[[int, int | None], None]
"""Takes the bytes fetched so far, and all of them where the server says how many there are."""
_LOG = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def cache_folder() -> Path:
    """Folder of fetched files: `PRISM_RAY_CACHE` where it is set, else `~/.cache/prism-ray`."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "prism-ray"


def cache_path(url: str, folder: Path | None = None) -> Path:
    """Place of a URL's file in the cache, whether it is there or not."""
    parent = (cache_folder() if folder is None else folder) / hashlib.sha256(url.encode()).hexdigest()[:16]
    return parent / PurePosixPath(urlsplit(url).path).name


def fetch(url: str, md5: str | None = None, *, folder: Path | None = None, on_progress: Progress | None = None) -> Path:
    """Path of a URL's file in the cache; fetched where it is not there yet, or has another MD5 than `md5`.

    Several processes may ask for one URL at the same time: one fetches, the others wait for it.

    Args:
        url: s3://, gs:// or https://; http:// only for this machine and private networks.
        md5: what the file is expected to have, 32 hexadecimal digits; not checked where not given.
        folder: the cache; `cache_folder()` where not given.
        on_progress: called after each block that came in.

    Raises:
        CatalogError: the URL cannot be fetched, the file is not what was expected, or the cache cannot be written.
        MissingDependencyError: what reads this kind of URL is not installed.
    """
    if why := why_refused(url):
        refuse(shown(url), *why)
    path = cache_path(url, folder)
    try:
        if _is_there(path, md5):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(_lock_of(path)):
            if not _is_there(path, md5):
                _fetch_into(path, url, md5, on_progress)
    except OSError as error:
        what = "the disk is full" if error.errno in _FULL else str(error.strerror or error)
        fix = f"free space there, or set {CACHE_VARIABLE} to a folder that can be written and is large enough"
        refuse(shown(url), f"cannot be kept in {path.parent} ({what})", fix)
    return path


def fetch_all(catalog: Catalog, faults: FaultList) -> None:
    """Fetch every URL of a catalog into the cache; what cannot be fetched is added to `faults`."""
    for file, md5 in catalog.files().items():
        if is_remote(file):
            try:
                fetch(file, md5)
            except CatalogError as error:
                faults.extend(error.faults)


def ensure_fetched(catalog: Catalog) -> None:
    """Make sure that every URL of a catalog is in this machine's cache; no network is used where it is.

    For a process on another machine than the one that checked the catalog. A FASTA gets its index here too.

    Raises:
        CatalogError: every URL that cannot be fetched.
    """
    faults = FaultList()
    fetch_all(catalog, faults)
    faults.raise_if_any(CatalogError)
    if catalog.sequence is not None and is_remote(catalog.sequence.fasta):
        # Loaded here: whoever only reads a catalog opens no FASTA.
        from prism_ray.features.sequence import ensure_index

        path = catalog.resolve(catalog.sequence.fasta)
        with _locked(_lock_of(path)):
            ensure_index(path)


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.fetched.json")


def _lock_of(path: Path) -> Path:
    return path.with_name(".lock")


def _is_there(path: Path, md5: str | None) -> bool:
    """Whether the cache holds a whole file, with the MD5 that is asked for."""
    try:
        note = json.loads(_note_of(path).read_text(encoding="utf-8"))
        size = path.stat().st_size
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(note, dict) and note.get("size") == size and md5 in (None, note.get("md5"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when a process ends, however it ends."""
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fetch_into(path: Path, url: str, md5: str | None, on_progress: Progress | None) -> None:
    """Fetch a URL under a temporary name, check it, and only then give it its own."""
    _LOG.info("fetching %s", shown(url))
    part = path.with_name(f"{path.name}.part")
    try:
        size, found = _write(part, url, on_progress)
        if md5 is not None and found != md5:
            fix = "mend the catalog if the file was replaced on purpose; else the URL names another file"
            refuse(shown(url), f"has MD5 {found}, the catalog says {md5}", fix)
        _note_of(path).unlink(missing_ok=True)
        part.replace(path)
        part.write_text(json.dumps({"url": shown(url), "size": size, "md5": found}), encoding="utf-8")
        part.replace(_note_of(path))
    finally:
        part.unlink(missing_ok=True)


def _write(part: Path, url: str, on_progress: Progress | None) -> tuple[int, str]:
    """Write a URL's content to a file; its size in bytes, and its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    with part.open("wb") as out, closing(blocks(url)) as incoming:
        for block, total in incoming:
            out.write(block)
            digest.update(block)
            size += len(block)
            if on_progress is not None:
                on_progress(size, total)
        out.flush()
        os.fsync(out.fileno())
    return size, digest.hexdigest()

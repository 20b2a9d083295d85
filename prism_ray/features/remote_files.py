"""Content of a URL, block by block, through fsspec; what the network or the server refuses is said in our words."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

from prism_ray.errors import MissingDependencyError
from prism_ray.features.urls import shown, why_refused
from prism_ray.features.windows import refuse

_BLOCK = 8 << 20
_CONNECT_S, _READ_S = 30, 120
# What the readers of URLs raise besides OSError. They are asked for by name because none has to be installed.
_THEIR_ERRORS = (
    ("aiohttp", "ClientError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("fsspec.exceptions", "FSTimeoutError"),
)
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
_DENIED_STATUS = (401, 403)
_CREDENTIALS = {
    "s3": "set AWS credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), "
    "or FSSPEC_S3_ANON=true for a public bucket",
    "gs": "log in with `gcloud auth application-default login`, or set FSSPEC_GS_TOKEN=anon for a public bucket",
}


def blocks(url: str) -> Generator[tuple[bytes, int | None], None, None]:
    """Content of a URL in order, each block with the size of the whole in bytes where the server says it.

    Raises:
        CatalogError: the URL cannot be reached, is denied, does not exist, or ends too early.
        MissingDependencyError: the package that reads this kind of URL is not installed.
    """
    done, total = 0, None
    try:
        stream, total = _open(url)
        with stream:
            while block := stream.read(_BLOCK):
                done += len(block)
                yield block, total
    except _errors() as error:
        refuse(shown(url), *_explained(url, error))
    if total is not None and done != total:
        refuse(shown(url), f"ended after {done} of {total} bytes", "run again; if it stays, mend it at its source")


def _open(url: str) -> tuple[Any, int | None]:
    """A stream of a URL, and its size in bytes where it is known."""
    scheme = urlsplit(url).scheme
    try:
        fsspec = importlib.import_module("fsspec")
        if scheme in ("http", "https"):
            aiohttp = importlib.import_module("aiohttp")
            # Without limits of its own a client gives up on any file that takes five minutes, and unpacks .gz files.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)
            settings = {"client_kwargs": {"timeout": timeout, "auto_decompress": False, "trust_env": True}}
        else:
            settings = {}
        files = fsspec.filesystem(scheme, skip_instance_cache=True, **settings)
    except ImportError as error:
        needed = f"fsspec and {_PACKAGES.get(scheme, 'aiohttp')}"
        raise MissingDependencyError(f"{shown(url)} needs {needed}; `pip install 'prism-ray[remote]'`") from error
    if scheme in ("http", "https"):
        # A size keeps fsspec from asking for it first, where it would take every refusal for a missing file.
        stream = files.open(url, "rb", block_size=0, size=-1, headers={"Accept-Encoding": "identity"})
        _refuse_detour(url, str(stream.r.url))
        length = stream.r.headers.get("Content-Length")
        return stream, int(length) if length is not None else None
    stream = files.open(url, "rb", block_size=_BLOCK, cache_type="none")
    return stream, int(stream.size)


def _refuse_detour(url: str, reached: str) -> None:
    """Refuse an answer that came from elsewhere, without encryption."""
    if reached.startswith("http://") and (why := why_refused(reached)):
        refuse(shown(url), f"leads to {shown(reached)}, which {why[0]}", "give a URL that stays on https://")


def _errors() -> tuple[type[BaseException], ...]:
    """What may go wrong with a URL, of the packages that are loaded by now."""
    loaded = ((sys.modules.get(module), name) for module, name in _THEIR_ERRORS)
    theirs = (getattr(module, name, None) for module, name in loaded if module is not None)
    return (OSError, asyncio.TimeoutError, *(kind for kind in theirs if kind is not None))


def _explained(url: str, error: BaseException) -> tuple[str, str]:
    """What went wrong, and what to do."""
    scheme = urlsplit(url).scheme
    status = getattr(error, "status", None)
    again = "check the network and run again"
    if isinstance(error, FileNotFoundError):
        return "there is no such file", "mend the URL in the catalog"
    if isinstance(error, PermissionError) or status in _DENIED_STATUS or "Credentials" in type(error).__name__:
        return "access is denied", _CREDENTIALS.get(scheme, "ask its owner, or give a URL that may be read")
    if status is not None:
        return f"the server answers {status} {getattr(error, 'message', '')}".rstrip(), again
    if isinstance(error, asyncio.TimeoutError):
        return "the server does not answer in time", again
    return f"cannot be fetched ({type(error).__name__}: {error})", again

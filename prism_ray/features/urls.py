"""Which files of a catalog are URLs, which of those may be fetched, and how they are shown."""

from __future__ import annotations

import ipaddress
import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

SCHEMES = ("s3", "gs", "https", "http")
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_PARTS = re.compile(r"^(?P<scheme>[^:]+://)(?:[^/?#]*@)?(?P<place>[^?#]*)(?P<query>[?#].*)?$", re.DOTALL)


def is_remote(file: str) -> bool:
    """Whether a catalog's file is a URL, and not a path."""
    return _URL.match(file) is not None


def shown(url: str) -> str:
    """A URL without user, password and query, which may hold secrets: for messages and notes."""
    found = _PARTS.match(url)
    if found is None:
        return url
    return f"{found['scheme']}{found['place']}" + ("?..." if found["query"] else "")


def why_refused(url: str) -> tuple[str, str] | None:
    """What is wrong with a URL, and what to do; None for one that may be fetched."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        return f"is not a URL ({error})", "write s3://bucket/name, gs://bucket/name or https://host/name"
    if parts.scheme not in SCHEMES:
        return f"cannot be fetched by {parts.scheme}://", "use s3://, gs:// or https://, or a path"
    if not host or not PurePosixPath(parts.path).name:
        return "names no file", "write s3://bucket/name, gs://bucket/name or https://host/name"
    if parts.scheme == "http" and not _is_near(host):
        return "is not encrypted: anyone on the way could change the file", "use https://"
    return None


def _is_near(host: str) -> bool:
    """Whether a host is this machine, or an address in a private network."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or (address.is_private and not address.is_link_local and not address.is_unspecified)

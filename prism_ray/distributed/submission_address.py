"""Where a job is submitted to, looked at before anything is sent: is it a dashboard's address, may a token go there?"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from prism_ray.errors import FaultList, InputError
from prism_ray.tracking import redact
from prism_ray.tracking.addresses import probe

_EXAMPLE = "http://HEAD:8265"


def check_addresses(dashboard: str, tracking_uri: str | None = None, *, insecure: bool = False) -> None:
    """Refuse addresses that no job can be submitted to, or over which its secrets would go in the clear.

    Args:
        dashboard: the head's dashboard, `http://HOST:PORT` or `https://HOST`.
        tracking_uri: MLflow store of the job; None where it is not said.
        insecure: plain HTTP to a public address is allowed.

    Raises:
        InputError: with all reasons.
    """
    faults = FaultList()
    where, parts = f"--address {redact(dashboard)}", urlsplit(dashboard)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        faults.add(where, "is not the address of a Ray dashboard", f"give {_EXAMPLE}")
    elif parts.username or parts.password:
        faults.add(
            where, "holds a password", "a cluster's token comes from RAY_AUTH_TOKEN_PATH, a proxy's from nowhere"
        )
    elif not insecure and is_public_http(dashboard):
        _add_public(faults, where, "Ray's token")
    if tracking_uri is not None and not insecure and is_public_http(tracking_uri):
        _add_public(faults, f"--tracking-uri {redact(tracking_uri)}", "MLflow's password")
    faults.raise_if_any(InputError)


def _add_public(faults: FaultList, where: str, secret: str) -> None:
    faults.add(
        where,
        f"is a public address, and plain HTTP would show {secret} to everybody on the way",
        "use https://, or a tunnel (ssh -L 8265:127.0.0.1:8265 HEAD) to a loopback address, or --insecure",
    )


def is_public_http(address: str) -> bool:
    """Whether text sent there goes over the internet as it is; a name that cannot be looked up here is not public."""
    parts = urlsplit(address)
    if parts.scheme != "http" or not parts.hostname:
        return False
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    # An interface may be part of an address: fe80::1%eth0.
    return any(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_global for entry in found)


def check_reachable(dashboard: str) -> None:
    """Refuse a dashboard where nobody listens, in seconds.

    Raises:
        InputError: nobody answers there.
    """
    try:
        probe(dashboard)
    except (OSError, ValueError, OverflowError) as problem:
        faults = FaultList()
        faults.add(
            f"--address {dashboard}",
            f"nobody answers there ({problem})",
            "start the cluster, correct the address, or open the tunnel to it",
        )
        faults.raise_if_any(InputError)

"""A server on this machine that speaks S3's protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def s3_server(served: Counter[str] | None = None) -> Iterator[dict[str, str]]:
    """Environment of a process that is to use it; a test that asks for it is skipped where moto is not installed.

    Args:
        served: is told the bytes of every answer to a GET, by the path that was asked for.
    """
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    if served is not None:
        server._server.app = _counting(server._server.app, served)
    try:
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        server.stop()


def _counting(app: Callable[..., Iterable[bytes]], served: Counter[str]) -> Callable[..., Iterator[bytes]]:
    def counted(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        for part in app(environ, start_response):
            if environ["REQUEST_METHOD"] == "GET":
                served[environ["PATH_INFO"]] += len(part)
            yield part

    return counted


def upload(folder: Path, client: Any, bucket: str, prefix: str) -> str:
    """Put a folder's files into a bucket, made where it is not there; their address."""
    client.create_bucket(Bucket=bucket)
    for path in folder.rglob("*"):
        if path.is_file():
            client.put_object(Bucket=bucket, Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes())
    return f"s3://{bucket}/{prefix}"

"""URLs of S3, against a server that speaks its protocol on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_edits import set_field

from prism_ray.errors import CatalogError
from prism_ray.features.catalog import check_catalog, load_catalog
from prism_ray.features.remote import CACHE_VARIABLE, fetch
from tests.s3 import s3_server

boto3 = pytest.importorskip("boto3")
pytest.importorskip("s3fs")

BUCKET = "tracks"
CONTENT = bytes(range(256)) * 50_000  # more than one block
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def s3_environment() -> Iterator[dict[str, str]]:
    """What a client of a server needs."""
    with s3_server() as environment:
        yield environment


@pytest.fixture
def bucket(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    """A client of the server, whose bucket holds `a/track.bw`."""
    for name, value in {
        **s3_environment,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        CACHE_VARIABLE: str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="a/track.bw", Body=CONTENT)
    yield client
    client.close()


def test_an_object_is_fetched_once(bucket: object, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int | None]] = []
    path = fetch(f"s3://{BUCKET}/a/track.bw", MD5, on_progress=lambda done, total: steps.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert len(steps) > 1
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert fetch(f"s3://{BUCKET}/a/track.bw", MD5) == path


@pytest.mark.parametrize("url", [f"s3://{BUCKET}/a/trakc.bw", "s3://trakcs/a/track.bw"])
def test_no_such_object(bucket: object, url: str) -> None:
    with pytest.raises(CatalogError, match=f"{url}: there is no such file; mend the URL in the catalog"):
        fetch(url)


def test_wrong_md5(bucket: object) -> None:
    with pytest.raises(CatalogError, match=f"track.bw: has MD5 {MD5}, the catalog says"):
        fetch(f"s3://{BUCKET}/a/track.bw", "0" * 32)


def test_without_credentials(bucket: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(CatalogError, match=r"track.bw: access is denied; set AWS credentials \(AWS_PROFILE"):
        fetch(f"s3://{BUCKET}/a/track.bw")


def test_a_catalog_with_an_object(bucket: object, genome_copy: Path) -> None:
    genes = (genome_copy / "genes.tsv").read_bytes()
    bucket.put_object(Bucket=BUCKET, Key="genes.tsv", Body=genes)  # type: ignore[attr-defined]
    set_field("genes", {"table": f"s3://{BUCKET}/genes.tsv", "md5": hashlib.md5(genes).hexdigest()})(genome_copy)
    assert len(check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000).cell_types["K562"].genes) == 24

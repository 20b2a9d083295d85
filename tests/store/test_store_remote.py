"""A store in a bucket, against a server that speaks S3's protocol: the same data, and no more bytes than planned."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prism_ray.store
from prism_ray.cli import main
from prism_ray.errors import StoreError
from prism_ray.store.place import RemoteFolder, place_of
from prism_ray.store.reading import bytes_read
from prism_ray.store.schema import FileEntry
from tests.s3 import s3_server, upload
from tests.store.factory import Recipe, make_store

boto3 = pytest.importorskip("boto3")
BUCKET = "data"
RECIPE = Recipe(window_bp=4000, cell_types=("K562",), n_genes=70)
ASKED: dict[str, Any] = {"window_bp": 2000, "signals": ("hic", "h3k27ac"), "cell_type": "K562"}
HOLE = 8192
"""Arrow fetches ranges as one where less than that lies between them."""


@dataclass(frozen=True)
class Bucket:
    client: Any
    url: str
    folder: Path
    served: Counter[str]

    def served_bytes(self) -> int:
        """Bytes of Parquet files that the server has given away since it was asked last."""
        n_bytes = sum(size for path, size in self.served.items() if path.endswith(".parquet"))
        self.served.clear()
        return n_bytes


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    folder = tmp_path_factory.mktemp("remote") / "store"
    make_store(folder, RECIPE)
    served: Counter[str] = Counter()
    with s3_server(served) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, "AWS_CONFIG_FILE": str(folder / "none")}.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        yield Bucket(client, upload(folder, client, BUCKET, "sets/a"), folder, served)
        client.close()


def test_the_same_data_as_in_a_folder(bucket: Bucket) -> None:
    remote, local = prism_ray.store.open(bucket.url), prism_ray.store.open(bucket.folder)
    assert (remote.digest, str(remote.path)) == (local.digest, bucket.url)
    copy = pickle.loads(pickle.dumps(remote))
    genes = local.genes("K562")["gene_id"].tolist()[::-3]
    for asked in (ASKED, {**ASKED, "genes": genes, "window_bp": 4000}, {**ASKED, "signals": (), "scalars": ()}):
        found, expected = copy.load(**asked), local.load(**asked)
        for name in ("gene_id", "chrom", "sequence", "signals", "scalars", "label"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    remote.verify()


def test_only_the_planned_bytes_leave_the_bucket(bucket: Bucket) -> None:
    store = prism_ray.store.open(bucket.url)
    store.genes("K562")  # their names are fetched once
    planned = store.bytes_to_read(**ASKED)  # fetches footers
    whole = sum(entry.bytes for entry in store.description.files)
    bucket.served_bytes()
    before = bytes_read()
    store.load(**ASKED)
    assert bytes_read() - before == planned < whole / 2
    served = bucket.served_bytes()
    n_row_groups = 2 * len(store.description.files)
    assert planned <= served <= planned + n_row_groups * 4 * HOLE
    # Of the genes of one chromosome, its file alone.
    store.load(**ASKED, genes=["chr2_gene1"])
    assert [path.split("/")[-2] for path in bucket.served if path.endswith(".parquet")] == ["chrom=chr2"]


def test_of_a_folder_the_system_sees_as_many_bytes_read(bucket: Bucket) -> None:
    def system_bytes() -> int:
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(fields["rchar"])

    store = prism_ray.store.open(bucket.folder)
    store.genes("K562")
    planned = store.bytes_to_read(**ASKED)
    counted, seen = bytes_read(), system_bytes()
    store.load(**ASKED)
    seen, counted = system_bytes() - seen, bytes_read() - counted
    assert counted == planned
    # Beside the columns: each footer for its checksum and by Parquet's reader, at every opening.
    assert planned <= seen <= planned + 32 * sum(1 for _ in store.description.files) * 16_384


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"s3://{BUCKET}/sets/b", "s3://data/sets/b: no such folder"),
        ("s3://dato/sets/a", "s3://dato/sets/a: no such folder"),
        (f"s3://{BUCKET}", "s3://data: names no folder of a bucket; give a folder, s3://BUCKET/FOLDER"),
        ("s3://", "s3://: names no folder of a bucket"),
        (f"s3://{BUCKET}/sets/a?region=x", r"s3://data/sets/a\?...: names no folder of a bucket"),
        ("ftp://host/store", "ftp://host/store: stores are not read from ftp://"),
        ("https://host/store", "https://host/store: stores are not read from https://"),
        (f"s3://key:c4n4ry@{BUCKET}/sets/a", "s3://data/sets/a: holds credentials, which would be kept with the study"),
    ],
)
def test_places_that_hold_no_store(bucket: Bucket, url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as refused:
        prism_ray.store.open(url)
    assert "c4n4ry" not in str(refused.value)


def test_what_is_wrong_with_objects_is_named(bucket: Bucket) -> None:
    first, second, third, fourth = prism_ray.store.open(bucket.folder).description.files
    damaged = upload(bucket.folder, bucket.client, BUCKET, "sets/damaged")

    def put(entry: FileEntry, change: Callable[[bytearray], object]) -> str:
        content = bytearray((bucket.folder / entry.path).read_bytes())
        change(content)
        bucket.client.put_object(Bucket=BUCKET, Key=f"sets/damaged/{entry.path}", Body=bytes(content))
        return f"{damaged}/{entry.path}"

    def flip(place: int) -> Callable[[bytearray], object]:
        return lambda content: content.__setitem__(place, content[place] ^ 0xFF)

    place = put(third, flip(-20))
    with pytest.raises(StoreError, match=rf"{place}: has another footer than store.json says"):
        prism_ray.store.open(damaged).load(**ASKED)
    put(third, bytes)
    place = put(first, flip(first.bytes // 2))
    with pytest.raises(StoreError, match=rf"{place}: cannot be read .*the file is damaged"):
        prism_ray.store.open(damaged).load(RECIPE.window_bp, ("hic", "dnase", "h3k27ac"), "K562")
    with pytest.raises(StoreError, match=rf"{place}: has SHA-256 .*its bytes were changed"):
        prism_ray.store.open(damaged).verify()
    short = put(second, bytearray.pop)
    bucket.client.delete_object(Bucket=BUCKET, Key=f"sets/damaged/{fourth.path}")
    with pytest.raises(StoreError) as refused:
        prism_ray.store.open(damaged)
    assert [fault.where for fault in refused.value.faults] == [short, f"{damaged}/{fourth.path}"]


def test_commands_that_look_at_a_store_take_its_address(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "info", bucket.url]) == 0
    assert capsys.readouterr().out.startswith(f"{bucket.url}: made, assembly")
    assert main(["store", "report", bucket.url]) == 2
    assert "--out: is not given, and the page cannot be written into a bucket" in capsys.readouterr().err


def test_a_server_that_is_away_is_said_in_words(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"cannot be read \(.*127.0.0.1.*\); this machine and every node need AWS"):
        prism_ray.store.open(bucket.url)


def test_places_by_their_text() -> None:
    assert place_of("/data/store") == Path("/data/store")
    assert place_of(Path("store")) == Path("store")
    place = place_of("s3://b/c/")
    assert isinstance(place, RemoteFolder)
    assert str(place / "store.json") == "s3://b/c/store.json"
    assert place.absolute() is place

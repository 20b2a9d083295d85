from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from catalog_edits import rewrite, set_field, set_signal

from prism_ray.errors import CatalogError, FaultList, MissingDependencyError
from prism_ray.features import remote, remote_files
from prism_ray.features.catalog import check_catalog, load_catalog
from prism_ray.features.remote import cache_folder, cache_path, ensure_fetched, fetch, fetch_all
from prism_ray.features.urls import is_remote, shown, why_refused

CONTENT = bytes(range(256)) * 3000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A web server on this machine. `asked` has the path of each request, in order."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.asked: list[str] = []
        self.delay_s = 0.0
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        name = self.path.partition("?")[0]
        if "elsewhere" in name:
            self.send_response(302)
            self.send_header("Location", f"http://0.0.0.0:{self.server.server_port}/a/track.bw")
            self.end_headers()
        elif "denied" in name or "broken" in name:
            self.send_error(403 if "denied" in name else 503)
        elif name not in self.server.files:
            self.send_error(404)
        else:
            content = self.server.files[name]
            self.send_response(200)
            if "endless" not in name:
                self.send_header("Content-Length", str(len(content)))
            if name.endswith(".gz"):
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            time.sleep(self.server.delay_s)
            if "short" not in name:
                self.wfile.write(content[len(content) // 2 :])

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[Server]:
    with Server({"/a/track.bw": CONTENT}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, in a folder of this test."""
    monkeypatch.setenv(remote.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_fetched_once(web: Server, cache: Path) -> None:
    url = f"{web.address}/a/track.bw"
    steps: list[tuple[int, int | None]] = []
    path = fetch(url, MD5, on_progress=lambda done, total: steps.append((done, total)))
    assert path == cache_path(url)
    assert path.parent.parent == cache
    assert path.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert steps == sorted(steps)
    assert json.loads((path.parent / "track.bw.fetched.json").read_text()) == {
        "url": url, "size": len(CONTENT), "md5": MD5,
    }  # fmt: skip
    assert fetch(url, MD5) == path
    assert fetch(url) == path
    assert web.asked == ["/a/track.bw"]
    assert names_in(cache) == {"track.bw", "track.bw.fetched.json", ".lock"}


def test_another_cache_folder_and_the_default_one(
    web: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(f"{web.address}/a/track.bw", folder=tmp_path / "own")
    assert path.is_relative_to(tmp_path / "own")
    assert not cache.exists()
    monkeypatch.delenv(remote.CACHE_VARIABLE)
    assert cache_folder() == Path.home() / ".cache" / "prism-ray"


def test_without_network_the_cache_is_enough(web: Server) -> None:
    url = f"{web.address}/a/track.bw"
    path = fetch(url, MD5)
    web.files.clear()
    assert fetch(url, MD5).read_bytes() == CONTENT
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(CatalogError, match=r"there is no such file; mend the URL in the catalog"):
        fetch(url, MD5)


@pytest.mark.parametrize("note", ["", "{", "[]", '{"size": 1}', None])
def test_a_file_without_a_fitting_note_is_fetched_again(web: Server, note: str | None) -> None:
    url = f"{web.address}/a/track.bw"
    path = fetch(url)
    beside = path.with_name("track.bw.fetched.json")
    beside.unlink()
    if note is not None:
        beside.write_text(note)
    fetch(url)
    assert len(web.asked) == 2
    assert json.loads(beside.read_text())["md5"] == MD5


def test_a_file_that_was_replaced_is_fetched_again_where_the_catalog_says_so(web: Server) -> None:
    url = f"{web.address}/a/track.bw"
    path = fetch(url, MD5)
    web.files["/a/track.bw"] = CONTENT[::-1]
    assert fetch(url, MD5).read_bytes() == CONTENT
    fetch(url, hashlib.md5(CONTENT[::-1]).hexdigest())
    assert path.read_bytes() == CONTENT[::-1]


def test_wrong_md5(web: Server, cache: Path) -> None:
    url = f"{web.address}/a/track.bw"
    with pytest.raises(CatalogError) as caught:
        fetch(url, "0" * 32)
    assert f"{url}: has MD5 {MD5}, the catalog says {'0' * 32}; mend the catalog if" in str(caught.value)
    assert names_in(cache) == {".lock"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/a/trakc.bw", "/a/trakc.bw: there is no such file; mend the URL in the catalog"),
        ("/denied.bw", "/denied.bw: access is denied; ask its owner, or give a URL that may be read"),
        ("/broken.bw", "/broken.bw: the server answers 503 Service Unavailable; check the network and run again"),
        ("/short.bw", "/short.bw: cannot be fetched (ClientPayloadError"),
    ],
)
def test_refused_by_the_server(web: Server, cache: Path, name: str, message: str) -> None:
    web.files["/short.bw"] = CONTENT
    with pytest.raises(CatalogError) as caught:
        fetch(web.address + name)
    assert message in str(caught.value)
    assert names_in(cache) == {".lock"}


def test_led_elsewhere_without_encryption(web: Server, cache: Path) -> None:
    with pytest.raises(CatalogError, match=r"/elsewhere.bw: leads to http://0.0.0.0:\d+/a/track.bw, which is not encr"):
        fetch(f"{web.address}/elsewhere.bw")
    assert names_in(cache) == {".lock"}


def test_nobody_answers(cache: Path) -> None:
    with Server({}) as server:
        url = f"{server.address}/a.bw"
    with pytest.raises(CatalogError, match=r"a.bw: cannot be fetched \(ClientConnectorError.*; check the network"):
        fetch(url)


def test_a_server_that_stalls(web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "_READ_S", 0.1)
    web.delay_s = 0.4
    with pytest.raises(CatalogError, match=r"track.bw: the server does not answer in time; check the network"):
        fetch(f"{web.address}/a/track.bw")


def test_a_stream_that_ends_too_early(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.write_bytes(b"12345")
    monkeypatch.setattr(remote_files, "_open", lambda url: (half.open("rb"), 10))
    with pytest.raises(CatalogError, match=r"s3://bucket/a.bw: ended after 5 of 10 bytes; run again"):
        fetch("s3://bucket/a.bw")
    assert names_in(cache) == {".lock"}


def test_compressed_files_stay_compressed_and_a_size_is_not_needed(web: Server) -> None:
    web.files |= {"/genes.tsv.gz": CONTENT, "/endless.bw": CONTENT}
    assert fetch(f"{web.address}/genes.tsv.gz", MD5).read_bytes() == CONTENT
    sizes: set[int | None] = set()
    fetch(f"{web.address}/endless.bw", MD5, on_progress=lambda done, total: sizes.add(total))
    assert sizes == {None}


def test_an_interrupted_fetch_leaves_nothing_behind(web: Server, cache: Path) -> None:
    url = f"{web.address}/a/track.bw"

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(url, on_progress=stop)
    assert names_in(cache) == {".lock"}
    # What a process leaves that had no chance to clean up.
    (cache_path(url).parent / "track.bw.part").write_bytes(b"half")
    assert fetch(url, MD5).read_bytes() == CONTENT
    assert "track.bw.part" not in names_in(cache)


def test_a_full_disk(web: Server, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(remote.os, "fsync", full)
    with pytest.raises(CatalogError) as caught:
        fetch(f"{web.address}/a/track.bw")
    assert "track.bw: cannot be kept in " in str(caught.value)
    assert "(the disk is full); free space there, or set PRISM_RAY_CACHE to a folder" in str(caught.value)
    assert names_in(cache) == {".lock"}


def test_a_cache_that_cannot_be_written(web: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CatalogError, match=r"(Not a directory|File exists).*; free space there, or set PRISM_RAY_CACHE"
    ):
        fetch(f"{web.address}/a/track.bw", folder=tmp_path / "file")


def fetch_in_a_process(url: str, folder: Path) -> None:
    if fetch(url, MD5, folder=folder).read_bytes() != CONTENT:
        sys.exit(1)


def test_two_processes_fetch_a_file_once(web: Server, tmp_path: Path) -> None:
    web.delay_s = 0.3
    start = multiprocessing.get_context("spawn").Process
    tasks = [start(target=fetch_in_a_process, args=(f"{web.address}/a/track.bw", tmp_path)) for _ in range(2)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join(60)
    assert [task.exitcode for task in tasks] == [0, 0]
    assert web.asked == ["/a/track.bw"]


def test_threads_fetch_a_file_once(web: Server) -> None:
    web.delay_s = 0.1
    url = f"{web.address}/a/track.bw"
    threads = [threading.Thread(target=fetch, args=(url, MD5)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert web.asked == ["/a/track.bw"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        MissingDependencyError, match=r"s3://bucket/a.bw needs fsspec and s3fs; `pip install 'prism-ray\[remote"
    ):
        fetch("s3://bucket/a.bw")


def test_the_package_for_a_kind_of_url_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        MissingDependencyError, match=r"gs://bucket/a.bw needs fsspec and gcsfs; `pip install 'prism-ray"
    ):
        fetch("gs://bucket/a.bw")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.bw",
        "s3://bucket/a/b.bw",
        "gs://bucket/a.bw",
        "http://localhost:8000/a.bw",
        "http://127.0.0.1/a.bw",
        "http://[::1]/a.bw",
        "http://10.1.2.3/a.bw",
        "http://192.168.0.9:81/a.bw",
    ],
)
def test_urls_that_may_be_fetched(url: str) -> None:
    assert is_remote(url)
    assert why_refused(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.org/a.bw", "is not encrypted"),
        ("http://8.8.8.8/a.bw", "is not encrypted"),
        ("http://169.254.169.254/a.bw", "is not encrypted"),
        ("http://0.0.0.0/a.bw", "is not encrypted"),
        ("http://localhost.example.org/a.bw", "is not encrypted"),
        ("http://localhost@example.org/a.bw", "is not encrypted"),
        ("ftp://example.org/a.bw", "cannot be fetched by ftp://"),
        ("file:///etc/passwd", "cannot be fetched by file://"),
        ("https://example.org/", "names no file"),
        ("s3://bucket", "names no file"),
        ("https:///a.bw", "names no file"),
        ("https://[::1/a.bw", "is not a URL"),
    ],
)
def test_urls_that_are_refused(url: str, problem: str) -> None:
    assert is_remote(url)
    found = why_refused(url)
    assert found is not None
    assert problem in found[0]
    with pytest.raises(CatalogError, match=r"is not encrypted|cannot be fetched by|names no file|is not a URL"):
        fetch(url)


@pytest.mark.parametrize("file", ["a.bw", "/data/a.bw", "../a b.bw", "chr1:2.bw", "~/a.bw"])
def test_paths_are_no_urls(file: str) -> None:
    assert not is_remote(file)


def test_secrets_of_a_url_are_not_shown(web: Server, cache: Path) -> None:
    assert shown("https://me:secret@example.org/a.bw?X-Signature=abc") == "https://example.org/a.bw?..."
    path = fetch(f"{web.address}/a/track.bw?token=abc")
    assert path.name == "track.bw"
    assert "abc" not in path.with_name("track.bw.fetched.json").read_text()
    with pytest.raises(CatalogError) as caught:
        fetch(f"{web.address}/lost.bw?token=abc")
    assert "abc" not in str(caught.value)


def test_a_catalog_with_urls(web: Server, genome_copy: Path, cache: Path) -> None:
    plain = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    names = ["genome.fa", "genes.tsv", "k562_dnase.bw"]
    for name in names:
        web.files[f"/{name}"] = (genome_copy / name).read_bytes()
        (genome_copy / name).unlink()
    md5 = hashlib.md5(web.files["/k562_dnase.bw"]).hexdigest()
    set_field("sequence", {"fasta": f"{web.address}/genome.fa"})(genome_copy)
    set_field("genes", {"table": f"{web.address}/genes.tsv"})(genome_copy)
    set_signal("dnase", file=f"{web.address}/k562_dnase.bw", md5=md5)(genome_copy)
    catalog = load_catalog(genome_copy / "catalog.yaml")
    fetched = check_catalog(catalog, 2000)
    assert fetched.chrom_sizes == plain.chrom_sizes
    assert fetched.cell_types["K562"].genes.equals(plain.cell_types["K562"].genes)
    assert sorted(web.asked) == sorted(f"/{name}" for name in names)
    # A process that only opens finds everything in the cache; on another machine it fetches.
    ensure_fetched(catalog)
    assert len(web.asked) == 3
    cache.rename(cache.with_name("elsewhere"))
    ensure_fetched(catalog)
    assert len(web.asked) == 6
    assert "genome.fa.fai" in names_in(cache)


def test_all_urls_that_cannot_be_fetched_are_said_at_once(web: Server, genome_copy: Path) -> None:
    set_signal("dnase", file=f"{web.address}/lost.bw")(genome_copy)
    set_signal("h3k27ac", file=f"{web.address}/a/track.bw", md5="0" * 32)(genome_copy)
    catalog = load_catalog(genome_copy / "catalog.yaml")
    with pytest.raises(CatalogError) as caught:
        check_catalog(catalog, 2000)
    assert [fault.where for fault in caught.value.faults] == [f"{web.address}/a/track.bw", f"{web.address}/lost.bw"]
    with pytest.raises(CatalogError, match=r"2 faults"):
        ensure_fetched(catalog)
    faults = FaultList()
    fetch_all(catalog, faults)
    assert len(faults) == 2


def test_a_catalog_says_at_once_which_urls_it_will_not_fetch(genome_copy: Path) -> None:
    set_signal("dnase", file="http://example.org/a.bw?key=secret")(genome_copy)
    rewrite(genome_copy, lambda content: content["genes"].update(table="ftp://example.org/genes.tsv"))
    with pytest.raises(CatalogError) as caught:
        load_catalog(genome_copy / "catalog.yaml")
    text = str(caught.value)
    assert "cell_types.K562.signals.dnase.file: http://example.org/a.bw?... is not encrypted" in text
    assert "genes.table: ftp://example.org/genes.tsv cannot be fetched by ftp://; use s3://" in text
    assert "secret" not in text

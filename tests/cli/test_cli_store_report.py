"""`prism-ray store report`, and the page at the end of `prism-ray build`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import prism_ray.distributed.build
import prism_ray.report.store_quality
import prism_ray.store
from prism_ray.cli import main
from prism_ray.errors import StoreError
from prism_ray.store.quality import BuildReport
from tests.report.made_store import RECIPE, made_store

SMALL = replace(RECIPE, n_genes=25, window_bp=300, cell_types=("K562",), signals={"dnase": "float32"})


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_page_lies_in_the_store_and_changes_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = made_store(tmp_path / "store", recipe=SMALL)
    before, digest = files_of(out), prism_ray.store.open(out).digest
    for _ in range(2):
        assert main(["store", "report", str(out)]) == 0
        assert capsys.readouterr().out == f"quality report: {out / 'quality.html'}\n"
    after = files_of(out)
    assert b"<h2>K562</h2>" in after.pop("quality.html")
    assert after == before
    assert prism_ray.store.open(out).digest == digest
    assert main(["store", "verify", str(out)]) == 0


def test_the_page_goes_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = made_store(tmp_path / "store", recipe=SMALL)
    assert main(["store", "report", str(out), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"quality report: {tmp_path / 'page.html'}\n"
    assert (tmp_path / "page.html").is_file()
    assert not (out / "quality.html").exists()
    assert main(["store", "report", str(out), "--out", str(tmp_path / "no" / "page.html")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "page.html: cannot be written (No such file or directory); give another file with --out" in said.err


def test_a_damaged_store_has_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = made_store(tmp_path / "store", recipe=SMALL)
    (out / "_SUCCESS").unlink()
    assert main(["store", "report", str(out)]) == 2
    assert "has no _SUCCESS mark" in capsys.readouterr().err


@pytest.fixture
def quick_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """`build` with a store that is made at once."""

    def build(catalog: Path, out: Path, *_: object) -> BuildReport:
        made_store(out, recipe=SMALL)
        return BuildReport.model_validate_json((out / "build_report.json").read_text())

    monkeypatch.setattr(prism_ray.distributed.build, "build_store", build)


@pytest.mark.usefixtures("quick_build")
def test_a_build_ends_with_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "store"
    assert main(["build", "catalog.yaml", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("made: window 300 bp")
    assert lines[-2:] == [f"store: {out}", f"quality report: {out / 'quality.html'}"]
    assert (out / "quality.html").is_file()


@pytest.mark.usefixtures("quick_build")
def test_a_page_that_fails_leaves_a_good_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> Path:
        raise StoreError("no room for the page")

    monkeypatch.setattr(prism_ray.report.store_quality, "write_store_report", fail)
    out = tmp_path / "store"
    assert main(["build", "catalog.yaml", "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert "no room for the page" in said.err
    assert said.out.endswith(f"store: {out}\n")
    prism_ray.store.open(out).verify()

"""`prism-ray catalog`: what it says and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism_ray.cli import main
from tests.features.geneexp_files import make_benchmark


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("geneexp") / "data"
    make_benchmark(made)
    return made


def test_from_geneexp_says_what_it_found(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "catalog.yaml"
    argv = ["catalog", "from-geneexp", str(folder), "--cell-type", "K562", "--cell-type", "GM12878", "--out", str(out)]
    assert main(argv) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        f"{out}: 20 genes on 4 chromosomes, 12 folds, cell types K562, GM12878",
        f"next: prism-ray build {out} --out STORE --window-bp 200000",
    ]
    assert 'column: "K562_CAGE_128*3_sum"' in out.read_text()


def test_from_geneexp_takes_rna_labels(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "catalog.yaml"
    argv = ["catalog", "from-geneexp", str(folder), "--cell-type", "K562", "--label", "rna", "--out", str(out)]
    assert main(argv) == 0
    assert 'column: "Actual_K562", transform: none' in out.read_text()


def test_faults_end_with_2_and_leave_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "catalog.yaml"
    argv = ["catalog", "from-geneexp", str(folder), "--cell-type", "H1", "--out", str(out)]
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "no H3K27ac of 'H1'; use one of GM12878, K562" in said.err
    assert list(tmp_path.iterdir()) == []

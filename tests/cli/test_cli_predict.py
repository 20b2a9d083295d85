"""`prism-ray predict`: what it prints, writes and refuses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from prism_ray.cli import main
from tests.distributed.predicting import N_GENES, inline, make_model, model, store

__all__ = ["inline", "model", "store"]


def command(model: Path | str, store: Path, out: Path, *more: str) -> list[str]:
    return ["predict", str(model), "--store", str(store), "--out", str(out), *more]


@pytest.mark.usefixtures("inline")
def test_progress_on_stderr_and_metrics_on_stdout(
    model: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.parquet"
    assert main(command(model, store, out, "--states")) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == f"K562: {N_GENES} genes, window 256 bp"
    for line, path in zip(lines[1:3], ("plain", "adjusted"), strict=True):
        words = line.split()
        assert words[0] == path
        assert words[1::2] == ["mse", "mae", "pearson_r", "spearman_r"]
    assert lines[3:] == [f"predictions {out}"]
    assert said.err.splitlines()[0] == "[5/24 genes] chr1: 5 genes"
    assert said.err.splitlines()[1] == "[10/24 genes] chr1 to chr2: 5 genes"
    table = pd.read_parquet(out)
    mse = float(((table["plain"] - table["label"]) ** 2).mean())
    assert f"mse {mse:.4f}" in lines[1]
    assert len(table["state_2"][0]) == 8


@pytest.mark.usefixtures("inline")
def test_a_file_of_genes_a_cell_type_and_a_window(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = make_model(tmp_path / "run" / "model", n_states=0)
    (tmp_path / "genes.txt").write_text("chrX_gene2\nchr1_gene1\n")
    flags = ["--genes", str(tmp_path / "genes.txt"), "--cell-type", "GM12878", "--window-bp", "100"]
    assert main(command(plain.parent, store, tmp_path / "p.parquet", *flags)) == 0
    said = capsys.readouterr().out
    assert said.startswith("GM12878: 2 genes, window 100 bp\nplain")
    assert "adjusted" not in said
    assert pd.read_parquet(tmp_path / "p.parquet")["gene_id"].tolist() == ["chr1_gene1", "chrX_gene2"]
    assert main(command(plain, store, tmp_path / "v.parquet", "--part", "validation", "--fold", "fold_1")) == 0
    assert set(pd.read_parquet(tmp_path / "v.parquet")["chrom"]) == {"chr1"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cell-type", "H1"], "cell_type: 'H1' is not in the store"),
        (["--window-bp", "4000"], "window_bp: 4000 is longer than the stored window of 256"),
        (["--fold", "fold_1"], "fold: 'fold_1' is given without a part"),
        (["--genes", "/no/such/file"], "/no/such/file: cannot be read (No such file or directory)"),
    ],
)
def test_wrong_input_ends_with_2_before_any_work(
    flags: list[str], message: str, model: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(model, store, tmp_path / "p.parquet", *flags)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("prism-ray predict: ")
    assert message in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_where_there_is_no_cuda(
    model: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("prism_ray.distributed.predict.starts_local_cluster", lambda address: True)
    assert main(command(model, store, tmp_path / "p.parquet", "--device", "cuda")) == 2
    said = capsys.readouterr()
    assert (said.out, list(tmp_path.iterdir())) == ("", [])
    assert said.err.startswith("prism-ray predict: device: cuda is asked for, and there is none here: PyTorch ")


def test_an_existing_file_is_not_overwritten(
    model: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.parquet").write_text("mine")
    assert main(command(model, store, tmp_path / "p.parquet")) == 2
    assert "p.parquet: exists already; give another --out" in capsys.readouterr().err
    assert (tmp_path / "p.parquet").read_text() == "mine"


def test_a_uri_without_its_store(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(command("models:/prism@champion", store, tmp_path / "p.parquet")) == 2
    assert "models:/prism@champion: needs a tracking store, and none is named" in capsys.readouterr().err

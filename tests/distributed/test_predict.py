"""Predictions for a store: known values, independence of how they are made, resumption, and what is refused."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import prism_ray.store
from prism_ray.distributed import predict as module
from prism_ray.distributed import predict_plan
from prism_ray.distributed.predict import PredictionProgress, Selection, predict
from prism_ray.distributed.predict_plan import device_faults, read_gene_ids
from prism_ray.errors import ConfigError, InputError, StoreError
from prism_ray.features.sequence import one_hot
from prism_ray.metrics import regression_metrics
from prism_ray.model import check_names, load
from prism_ray.training.inference import predict_genes
from tests.distributed.predicting import N_GENES, SIGNALS, WINDOW, inline, make_model, model, renamed, store

__all__ = ["inline", "model", "store"]


def direct(model: Path, store: Path, cell_type: str = "K562") -> tuple[pd.DataFrame, Any]:
    """Genes, and the model's own output for all of them at once."""
    opened = prism_ray.store.open(store)
    arrays = opened.load(WINDOW, SIGNALS, cell_type, scalars=("cds_gc", "utr5_len"))
    assert arrays.sequence is not None
    inputs = (one_hot(arrays.sequence), arrays.signals, arrays.scalars)
    with torch.inference_mode():
        return opened.genes(cell_type), load(model)(*map(torch.from_numpy, inputs))


@pytest.fixture(scope="module")
def expected(model: Path, store: Path) -> tuple[pd.DataFrame, Any]:
    return direct(model, store)


@pytest.mark.usefixtures("inline")
class TestValues:
    def test_a_row_a_gene_with_the_models_own_predictions(
        self, model: Path, store: Path, tmp_path: Path, expected: tuple[pd.DataFrame, Any]
    ) -> None:
        made = predict(model, store, tmp_path / "p.parquet", states=True)
        table = pd.read_parquet(tmp_path / "p.parquet")
        genes, output = expected
        assert list(table) == [
            *("gene_id", "gene_name", "chrom", "tss", "label", "plain", "adjusted", "state_1", "state_2")
        ]
        for name in ("gene_id", "gene_name", "chrom", "tss", "label"):
            assert table[name].tolist() == genes[name].tolist()
        np.testing.assert_allclose(table["plain"], output.plain, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(table["adjusted"], output.adjusted, rtol=1e-5, atol=1e-6)
        for i in range(2):
            weights = np.stack(table[f"state_{i + 1}"].tolist())
            np.testing.assert_allclose(weights, output.state_weights[:, :, i], rtol=1e-5, atol=1e-6)
        assert pq.read_schema(made.path).field("state_1").type.list_size == 8
        assert (made.cell_type, made.window_bp, made.n_genes) == ("K562", WINDOW, N_GENES)
        assert made.metrics["plain"] == pytest.approx(regression_metrics(table["plain"], table["label"]))
        assert made.metrics["adjusted"] == pytest.approx(regression_metrics(table["adjusted"], table["label"]))
        assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]

    def test_shards_and_batches_do_not_matter(
        self, model: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tables = []
        for genes in (1, 7, 100):
            monkeypatch.setattr(predict_plan, "_POSITIONS_A_SHARD", genes * WINDOW)
            predict(model, store, tmp_path / f"{genes}.parquet", states=True)
            tables.append(pd.read_parquet(tmp_path / f"{genes}.parquet"))
        for other in tables[1:]:
            pd.testing.assert_frame_equal(tables[0], other, rtol=1e-5, atol=1e-6)
        arrays = prism_ray.store.open(store).load(WINDOW, SIGNALS, "K562", scalars=("cds_gc", "utr5_len"))
        whole, one = (predict_genes(load(model), arrays, positions_a_batch=n) for n in (10**6, 1))
        for first, second in zip(whole, one, strict=True):
            assert first is not None
            np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)

    def test_without_states_the_adjusted_path_is_null(self, store: Path, tmp_path: Path) -> None:
        plain = make_model(tmp_path / "plain", n_states=0)
        made = predict(plain, store, tmp_path / "p.parquet")
        table = pq.read_table(tmp_path / "p.parquet")
        assert table["adjusted"].null_count == N_GENES
        assert table.column_names[-1] == "adjusted"
        assert made.metrics.keys() == {"plain"}

    def test_a_model_in_memory_and_one_gene(self, model: Path, store: Path, tmp_path: Path) -> None:
        made = predict(load(model), store, tmp_path / "p.parquet", selection=Selection(genes=("chr2_gene3",)))
        assert (made.n_genes, made.metrics) == (1, {})

    def test_genes_are_written_in_store_order(self, model: Path, store: Path, tmp_path: Path) -> None:
        asked = ("chrX_gene1", "chr1_gene5", "chr1_gene0")
        predict(model, store, tmp_path / "p.parquet", selection=Selection(genes=asked))
        assert pd.read_parquet(tmp_path / "p.parquet")["gene_id"].tolist() == list(reversed(asked))

    def test_a_part_of_the_models_own_fold_and_another_cell_type(
        self, model: Path, store: Path, tmp_path: Path
    ) -> None:
        chosen = Selection(part="test", cell_type="GM12878")
        predict(model, store, tmp_path / "p.parquet", selection=chosen)
        table = pd.read_parquet(tmp_path / "p.parquet")
        assert set(table["chrom"]) == {"chr2"}
        _, output = direct(model, store, "GM12878")
        np.testing.assert_allclose(table["plain"], output.plain[6:12], rtol=1e-5, atol=1e-6)

    def test_an_interrupted_prediction_goes_on(self, model: Path, store: Path, tmp_path: Path) -> None:
        out, folder = tmp_path / "p.parquet", tmp_path / ".p.parquet.partial"

        def stop(progress: PredictionProgress) -> None:
            if progress.n_done == 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            predict(model, store, out, on_progress=stop)
        assert not out.exists()
        kept = {file.name: file.stat().st_mtime_ns for file in folder.glob("part-*")}
        assert len(kept) == 2
        (folder / "part-000001.parquet").write_bytes(b"torn")  # by a power loss
        said: list[PredictionProgress] = []
        predict(model, store, out, on_progress=said.append)
        assert said[0].message == "kept 5 genes of an earlier prediction that was interrupted"
        assert [progress.n_done for progress in said] == [5, 10, 15, 20, 24]
        assert not folder.exists()
        predict(model, store, tmp_path / "again.parquet")
        assert pd.read_parquet(out).equals(pd.read_parquet(tmp_path / "again.parquet"))

    def test_parts_of_another_model_are_discarded(
        self, model: Path, store: Path, tmp_path: Path, expected: tuple[pd.DataFrame, Any]
    ) -> None:
        def stop(progress: PredictionProgress) -> None:
            if progress.n_done == 15:
                raise KeyboardInterrupt

        other = load(model)
        with torch.no_grad():
            other.head[4].bias.add_(1.0)
        with pytest.raises(KeyboardInterrupt):
            predict(other, store, tmp_path / "p.parquet", on_progress=stop)
        said: list[str] = []
        predict(model, store, tmp_path / "p.parquet", on_progress=lambda progress: said.append(progress.message))
        assert said[0].startswith("discarded what an earlier prediction of another model or other genes")
        table = pd.read_parquet(tmp_path / "p.parquet")
        np.testing.assert_allclose(table["plain"], expected[1].plain, rtol=1e-5, atol=1e-6)

    def test_values_that_are_not_numbers_are_told_with_their_genes(
        self, model: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = prism_ray.store.Store.load

        def spoiled(*given: Any, **named: Any) -> Any:
            arrays = whole(*given, **named)
            arrays.signals[1, 5, 0] = np.nan
            arrays.scalars[:3, 1] = np.inf
            return arrays

        monkeypatch.setattr(prism_ray.store.Store, "load", spoiled)
        with pytest.raises(InputError) as raised:
            predict(model, store, tmp_path / "p.parquet")
        text = str(raised.value)
        assert "genes chr1_gene0 to chr1_gene4: signals: has values that are NaN or infinite in 1 of 5 genes" in text
        assert "genes chr1_gene0 to chr1_gene4: scalars: has values that are NaN or infinite in 3 of 5 genes" in text
        assert list(tmp_path.iterdir()) == []


def refused(*given: Any, **named: Any) -> str:
    """Text of the refusal, which comes before any work."""
    with pytest.raises(InputError) as raised:
        predict(*given, **named)
    return str(raised.value)


def test_everything_that_does_not_fit_is_told_together(model: Path, store: Path, tmp_path: Path) -> None:
    odd = renamed(model, tmp_path / "odd", signals=("dnase", "h3k4me3"), scalars=("cds_gc", "x"), window_bp=512)
    out = tmp_path / "p.parquet"
    out.touch()
    text = refused(odd, store, out, selection=Selection(cell_type="H1", part="test"), device="gpu")
    assert text.startswith("7 faults:")
    for part in (
        "device: 'gpu' is not a device; use one of auto, cpu, cuda",
        "p.parquet: exists already; give another --out",
        "cell_type: 'H1' is not in the store",
        "window_bp: 512 is longer than the stored window of 256",
        "signals: 'h3k4me3' is not in the store; use one of dnase, h3k27ac, hic",
        "scalars: 'x' is not in the store",
        "fold: is neither given nor known to the model",
    ):
        assert part in text, part
    assert not list(tmp_path.glob(".*"))


def test_a_signal_that_the_cell_type_has_not(model: Path, store: Path, tmp_path: Path) -> None:
    hic = renamed(model, tmp_path / "hic", signals=("hic", "dnase"), scalars=("cds_gc", "utr5_len"), window_bp=WINDOW)
    text = refused(hic, store, tmp_path / "p.parquet", selection=Selection(cell_type="GM12878"))
    assert "signals: GM12878 has no 'hic'" in text


def test_what_the_model_does_not_know_must_be_said(model: Path, store: Path, tmp_path: Path) -> None:
    bare = renamed(model, tmp_path / "bare", signals=SIGNALS, scalars=("cds_gc", "utr5_len"))
    text = refused(bare, store, tmp_path / "p.parquet")
    assert "cell_type: is neither given nor known to the model; name one of the store's with --cell-type" in text
    assert "window_bp: is neither given nor known to the model; give its training window with --window-bp" in text
    nameless = load(model)
    nameless.trained_on = None
    assert "model: does not say what it was trained on" in refused(nameless, store, tmp_path / "p.parquet")


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(genes=("chr1_gene0", "nobody")), "genes: 1 of 2 ids are not in the store: nobody"),
        (Selection(fold="fold_1"), "fold: 'fold_1' is given without a part; say which with --part"),
        (Selection(part="test", fold="fold_9"), "fold: 'fold_9' is not a fold of the store; use one of fold_1"),
        (Selection(part="test", genes=("chr1_gene0",)), "part: is given together with genes; give one of the two"),
    ],
)
def test_selections_that_are_refused(
    selection: Selection, message: str, model: Path, store: Path, tmp_path: Path
) -> None:
    assert message in refused(model, store, tmp_path / "p.parquet", selection=selection)


def test_a_model_and_a_store_that_are_not_there(tmp_path: Path) -> None:
    text = refused(tmp_path / "none", tmp_path / "nowhere", tmp_path / "no" / "p.parquet")
    assert text.startswith("3 faults:")
    assert f"{tmp_path / 'none'}: no such folder" in text
    assert "nowhere" in text
    assert f"{tmp_path / 'no'} is no folder; create it" in text


def test_states_of_a_model_without_any(store: Path, tmp_path: Path) -> None:
    plain = make_model(tmp_path / "plain", n_states=0)
    assert "states: are asked for, and the model has n_states 0" in refused(plain, store, tmp_path / "p", states=True)


def test_cuda_where_there_is_none(
    model: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "starts_local_cluster", lambda address: True)
    text = refused(model, store, tmp_path / "p.parquet", device="cuda")
    assert "device: cuda is asked for, and there is none here: PyTorch " in text
    monkeypatch.setattr(module, "starts_local_cluster", lambda address: False)
    text = refused(model, store, tmp_path / "p.parquet", device="cuda")
    assert "device: cuda is asked for, and the cluster has no GPU; use --device cpu" in text
    monkeypatch.setattr(module.ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": 1.0})
    # The cluster counts a GPU that PyTorch cannot use.
    text = refused(model, store, tmp_path / "p.parquet", device="cuda")
    assert "device: cuda is asked for, and there is none here" in text
    assert "workers: 2 is more than the cluster's 1 GPUs" in refused(model, store, tmp_path / "p", n_workers=2)
    assert list(tmp_path.iterdir()) == []
    assert device_faults("auto", local=True) == device_faults("cpu", local=True) == []


@pytest.mark.parametrize("n_workers", [0, 99])
def test_numbers_of_workers_that_cannot_be(
    n_workers: int, model: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ray_runtime", nullcontext)
    monkeypatch.setattr(module.ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(ConfigError, match=f"workers: {n_workers} is "):
        predict(model, store, tmp_path / "p.parquet", n_workers=n_workers)
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time(model: Path, store: Path, tmp_path: Path, inline: None) -> None:
    said: list[str] = []

    def meanwhile(progress: PredictionProgress) -> None:
        if not said:
            said.append(refused(model, store, tmp_path / "p.parquet"))

    predict(model, store, tmp_path / "p.parquet", on_progress=meanwhile)
    assert "p.parquet: another process is predicting it; wait for it" in said[0]


def test_a_damaged_store(model: Path, tmp_path: Path, store: Path, inline: None) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    file = next(copy.rglob("part-0.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises((InputError, StoreError), match=r"store\.json says"):
        predict(model, copy, tmp_path / "p.parquet")


class TestGeneIds:
    def test_one_a_line(self, tmp_path: Path) -> None:
        (tmp_path / "genes.txt").write_text("# chosen\nENSG2\n\n  ENSG1  \n")
        assert read_gene_ids(tmp_path / "genes.txt") == ("ENSG2", "ENSG1")

    def test_faults_together(self, tmp_path: Path) -> None:
        file = tmp_path / "genes.txt"
        file.write_text("ENSG1\nENSG2 TP53\nENSG1\n")
        with pytest.raises(InputError) as raised:
            read_gene_ids(file)
        assert "genes.txt:2: 'ENSG2 TP53' is more than a gene id; give one id a line" in str(raised.value)
        assert "genes.txt:3: ENSG1 is in line 1 already; keep one of the two" in str(raised.value)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "cannot be read (No such file"),
            (b"\xff\xfe", "it is not UTF-8 text"),
            (b"# none\n", "holds no gene id"),
        ],
    )
    def test_unusable_files(self, content: bytes | None, message: str, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "genes.txt").write_bytes(content)
        with pytest.raises(InputError) as raised:
            read_gene_ids(tmp_path / "genes.txt")
        assert message in str(raised.value)


def test_names_in_another_order_are_told(model: Path, store: Path) -> None:
    trained = load(model).trained_on
    assert trained is not None
    check_names(trained, ["dnase", "h3k27ac"], ["cds_gc", "utr5_len"])
    turned = prism_ray.store.open(store).load(WINDOW, SIGNALS[::-1], "K562", scalars=("cds_gc", "utr5_len"))
    with pytest.raises(InputError, match=r"signals: \['h3k27ac', 'dnase'\] come in another order than the model was"):
        predict_genes(load(model), turned)
    with pytest.raises(InputError) as raised:
        check_names(trained, ["h3k27ac", "dnase"], ["cds_gc"])
    assert [fault.where for fault in raised.value.faults] == ["signals", "scalars"]
    assert "come in another order than the model was trained on; give ['dnase', 'h3k27ac']" in str(raised.value)
    assert "['cds_gc'] are not those that the model was trained on" in str(raised.value)


@pytest.mark.ray
def test_ray_workers_give_the_same(
    ray_cluster: None,
    model: Path,
    store: Path,
    tmp_path: Path,
    expected: tuple[pd.DataFrame, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predict_plan, "_POSITIONS_A_SHARD", 6 * WINDOW)
    made = predict(model, store, tmp_path / "p.parquet", states=True, n_workers=2)
    table = pd.read_parquet(made.path)
    assert table["gene_id"].tolist() == expected[0]["gene_id"].tolist()
    np.testing.assert_allclose(table["plain"], expected[1].plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(table["adjusted"], expected[1].adjusted, rtol=1e-5, atol=1e-6)

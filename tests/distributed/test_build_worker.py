"""What a worker writes, against a reader that looks up one base at a time; no Ray is needed for that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
import pytest
import yaml

import prism_ray.store
from prism_ray.distributed.build import _finish
from prism_ray.distributed.build_plan import BuildPlan, plan_build
from prism_ray.distributed.build_worker import PartitionBuilder
from prism_ray.distributed.partition_run import FAULTS, PARTITION
from prism_ray.errors import CatalogError, StoreError
from prism_ray.store import Store, layout
from prism_ray.store.staging import Staging


def build_here(plan: BuildPlan, out: Path) -> Store:
    """Build a store in this process."""
    with Staging(out, plan.key) as staging:
        builder = PartitionBuilder(plan, str(staging.path))
        records = [builder.build(partition) for partition in plan.partitions]
        builder.close()
        _finish(plan, staging, records)
    return prism_ray.store.open(out)


@pytest.fixture(scope="module")
def plan(simulated_catalog: Path) -> BuildPlan:
    return plan_build(simulated_catalog)


@pytest.fixture(scope="module")
def store(plan: BuildPlan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build_here(plan, tmp_path_factory.mktemp("built") / "store")


def genome(path: Path) -> dict[str, str]:
    records: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith(">"):
            name = line[1:].split()[0]
            records[name] = []
        else:
            records[name].append(line)
    return {name: "".join(lines).upper() for name, lines in records.items()}


def base_by_base(get: Callable[[int], float], tss: int, size: int, window_bp: int, beyond: float) -> list[float]:
    start = tss - window_bp // 2
    return [get(position) if 0 <= position < size else beyond for position in range(start, start + window_bp)]


def test_dna_is_the_fasta_base_by_base(plan: BuildPlan, store: Store, simulated_catalog: Path) -> None:
    dna = genome(simulated_catalog.parent / "genome.fa")
    genes = store.genes("K562")
    window_bp = 600
    arrays = store.load(window_bp, [], "K562")
    assert arrays.sequence is not None
    for row, (chrom, tss) in enumerate(zip(genes["chrom"], genes["tss"], strict=True)):
        text = dna[chrom]
        expected = base_by_base(lambda at, text=text: "ACGTN".index(text[at]), tss, len(text), window_bp, 4)  # type: ignore[misc]
        np.testing.assert_array_equal(arrays.sequence[row], expected)


@pytest.mark.parametrize(("signal", "transform"), [("h3k27ac", np.log1p), ("dnase", np.log1p)])
def test_tracks_are_the_bigwig_base_by_base(
    plan: BuildPlan, store: Store, signal: str, transform: Callable[[float], float]
) -> None:
    source = plan.catalog.cell_types["GM12878"].signals[signal]
    assert source.transform == "log1p"
    genes = store.genes("GM12878")
    arrays = store.load(store.window_bp, [signal], "GM12878", sequence=False)
    with pyBigWig.open(str(plan.catalog.resolve(source.file))) as track:
        sizes = track.chroms()
        # Every tenth gene, and all whose window reaches beyond the chromosome.
        half = store.window_bp // 2
        for row, (chrom, tss) in enumerate(zip(genes["chrom"], genes["tss"], strict=True)):
            if row % 10 and half <= tss <= sizes[chrom] - half:
                continue
            values = track.values(chrom, 0, sizes[chrom])
            expected = base_by_base(
                lambda at, values=values: 0.0 if np.isnan(values[at]) else transform(values[at]),  # type: ignore[misc]
                tss,
                sizes[chrom],
                store.window_bp,
                0.0,
            )
            np.testing.assert_allclose(arrays.signals[row, :, 0], np.array(expected, np.float32), rtol=1e-6)


def test_some_windows_reach_beyond_a_chromosome(plan: BuildPlan, store: Store) -> None:
    genes = store.genes("K562")
    sizes = genes["chrom"].map(plan.chrom_sizes)
    half = store.window_bp // 2
    padded = (genes["tss"] < half) | (genes["tss"] > sizes - half)
    assert padded.sum() > 0
    report = json.loads((store.path / "build_report.json").read_text())
    assert report["cell_types"]["K562"]["n_padded"] == padded.sum()


def test_genes_labels_and_scalars_are_the_catalogs(plan: BuildPlan, store: Store) -> None:
    for name, cell in plan.cell_types.items():
        genes = store.genes(name)
        for column in ("gene_id", "gene_name", "chrom", "tss", "strand", "label"):
            assert list(genes[column]) == list(cell.genes[column]), column
        arrays = store.load(2, [], name)
        assert arrays.scalar_names == cell.scalar_names
        np.testing.assert_array_equal(arrays.scalars, cell.scalars)


def test_description(plan: BuildPlan, store: Store) -> None:
    description = store.description
    assert store.signals == ("h3k27ac", "dnase", "hic")
    assert {signal.name: signal.role for signal in description.signals} == {
        "h3k27ac": "foreground",
        "dnase": "background",
        "hic": "background",
    }
    assert description.sequence is not None
    assert description.sequence.file == "genome.fa"
    source = description.cell_types["K562"].sources["hic"]
    assert (source.file, source.kind, len(source.md5)) == ("k562_hic.mcool", "cooler", 32)
    assert description.cell_types["K562"].label.source == "labels.tsv: K562"
    assert description.catalog_digest == plan.catalog_digest
    assert store.folds.to_json() == plan.folds
    assert [entry.chrom for entry in description.files_of("K562")] == [f"chr{number}" for number in range(1, 7)]


def test_row_groups_change_no_value(
    plan: BuildPlan, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "ROW_GROUP_ROWS", 5)
    small = build_here(plan, tmp_path / "small")
    assert small.digest == store.digest
    one, other = (each.load(3000, ["hic", "dnase"], "K562") for each in (small, store))
    np.testing.assert_array_equal(one.signals, other.signals)
    reports = [json.loads((each.path / "build_report.json").read_text()) for each in (small, store)]
    assert reports[0]["cell_types"] == reports[1]["cell_types"]


def test_moved_data_give_the_same_digest(store: Store, simulated_catalog: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(simulated_catalog.parent, tmp_path / "moved"))
    assert build_here(plan_build(copy / "catalog.yaml"), tmp_path / "store").digest == store.digest


def test_another_window_gives_the_same_values(plan: BuildPlan, store: Store, tmp_path: Path) -> None:
    short = build_here(replace(plan, window_bp=2000), tmp_path / "short")
    one, other = (each.load(2000, list(store.signals), "K562") for each in (short, store))
    np.testing.assert_array_equal(one.signals, other.signals)
    np.testing.assert_array_equal(one.sequence, other.sequence)
    assert short.digest != store.digest


def test_a_store_without_dna(edited: Any, tmp_path: Path) -> None:
    catalog = edited(lambda data: data.pop("sequence"))
    store = build_here(plan_build(catalog, 400), tmp_path / "store")
    assert not store.has_sequence
    assert store.load(400, ["dnase"], "K562", sequence=False).signals.any()


def test_cell_types_with_different_tracks(edited: Any, tmp_path: Path) -> None:
    catalog = edited(lambda data: data["cell_types"]["K562"]["signals"].pop("h3k27ac"))
    store = build_here(plan_build(catalog, 400), tmp_path / "store")
    assert store.signals == ("dnase", "hic", "h3k27ac")
    assert store.signals_of("K562") == ("dnase", "hic")
    assert store.signals_of("GM12878") == ("dnase", "hic", "h3k27ac")


def half_precision(data: dict[str, Any]) -> None:
    for cell in data["cell_types"].values():
        cell["signals"]["dnase"]["dtype"] = "float16"


def test_float16(store: Store, edited: Any, tmp_path: Path) -> None:
    half = build_here(plan_build(edited(half_precision)), tmp_path / "half")
    exact, rounded = (each.load(8000, ["dnase"], "K562").signals for each in (store, half))
    np.testing.assert_array_equal(rounded, exact.astype(np.float16).astype(np.float32))
    report = json.loads((half.path / "build_report.json").read_text())
    signal = report["cell_types"]["K562"]["signals"]["dnase"]
    assert signal["float16_largest_error"] == pytest.approx(np.abs(exact - rounded).max())
    assert 0 < signal["float16_loss"] < 1e-3


def test_a_lossy_float16_is_refused_before_the_store_appears(edited: Any, tmp_path: Path) -> None:
    catalog = edited(half_precision)
    plan = plan_build(catalog, 400)
    track = plan.catalog.resolve(plan.catalog.cell_types["K562"].signals["dnase"].file)
    with pyBigWig.open(str(track)) as old:
        sizes = list(old.chroms().items())
    track.unlink()
    with pyBigWig.open(str(track), "w") as new:
        new.addHeader(sizes)
        for chrom, size in sizes:
            starts = np.arange(0, size - 10, 10)
            new.addEntries(
                [chrom] * len(starts), starts.tolist(), (starts + 10).tolist(), [30_000.0 + at % 7 for at in starts]
            )

    def raw(data: dict[str, Any]) -> None:
        half_precision(data)
        for cell in data["cell_types"].values():
            cell["signals"]["dnase"]["transform"] = "none"

    data = yaml.safe_load(catalog.read_text())
    raw(data)
    catalog.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(StoreError, match=r"cell_types\.K562\.signals\.dnase\.dtype: loses .* as float16") as error:
        build_here(plan_build(catalog, 400), tmp_path / "store")
    assert len(error.value.faults) == 1
    assert not (tmp_path / "store").exists()


def test_faults_come_back_as_text(plan: BuildPlan, tmp_path: Path) -> None:
    broken = replace(plan, cell_types={**plan.cell_types})
    (tmp_path / "file").write_text("")
    builder = PartitionBuilder(broken, str(tmp_path / "file"))
    (text,) = builder({PARTITION: np.array([0])})[FAULTS]
    (fault,) = json.loads(text)
    assert fault["where"] == f"{tmp_path / 'file'}: K562 chr1"
    assert fault["problem"].startswith("cannot be written")


def test_a_track_that_breaks_while_building_is_named(edited: Any, tmp_path: Path) -> None:
    plan = plan_build(edited(lambda data: None), 400)
    track = plan.catalog.resolve(plan.catalog.cell_types["K562"].signals["dnase"].file)
    track.write_bytes(b"no track")
    (text,) = PartitionBuilder(plan, str(tmp_path / "staging"))({PARTITION: np.array([0])})[FAULTS]
    assert any("k562_dnase.bw" in fault["where"] for fault in json.loads(text))


def test_keys_tell_what_is_built(plan: BuildPlan) -> None:
    assert replace(plan, window_bp=2000).key != plan.key
    assert replace(plan, catalog_digest="0" * 64).key != plan.key
    assert replace(plan, md5s={}).key == plan.key


def test_partitions_are_runs_of_genes_of_one_chromosome(plan: BuildPlan) -> None:
    for partition in plan.partitions:
        chroms = plan.cell_types[partition.cell_type].genes["chrom"]
        assert set(chroms[partition.start : partition.end]) == {partition.chrom}
    assert sum(partition.n_genes for partition in plan.partitions) == 2 * 96


def test_a_cell_type_without_a_labelled_gene_is_refused(edited: Any) -> None:
    catalog = edited(lambda data: data["cell_types"]["K562"]["label"].update(missing="drop", table="empty.tsv"))
    (catalog.parent / "empty.tsv").write_text("gene_id\tK562\n")
    with pytest.raises(CatalogError, match="K562"):
        plan_build(catalog)


def test_all_faults_of_a_catalog_are_reported_before_work(edited: Any, tmp_path: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        data["cell_types"]["K562"]["signals"]["dnase"]["file"] = "nowhere.bw"
        data["cell_types"]["GM12878"]["label"]["column"] = "HeLa"

    with pytest.raises(CatalogError) as error:
        plan_build(edited(spoil))
    assert len(error.value.faults) == 2

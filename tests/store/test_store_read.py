from __future__ import annotations

import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import prism_ray.store
from prism_ray.errors import ConfigError
from prism_ray.store import GeneArrays, Store, fill, read
from tests.store.factory import Partition, Recipe, make_store

WINDOW_BP = 5000


class Made:
    """A store and what was put into it."""

    def __init__(self, path: Path, partitions: list[Partition]) -> None:
        self.path = path
        self.store = prism_ray.store.open(path)
        self.partitions = partitions

    def expected(self, cell_type: str, window_bp: int, name: str) -> NDArray[np.float32]:
        """Base by base: the value at each distance from the TSS."""
        rows = [part.rows.signals[name] for part in self.partitions if part.cell_type == cell_type]
        whole = np.concatenate(rows)
        out = np.zeros((len(whole), window_bp), np.float32)
        for position in range(window_bp):
            out[:, position] = whole[:, WINDOW_BP // 2 + position - window_bp // 2]
        return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("made") / "store"
    return Made(path, make_store(path, Recipe(window_bp=WINDOW_BP)))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(half=st.integers(1, WINDOW_BP // 2))
def test_any_even_window_is_the_stored_one_cut_base_by_base(made: Made, half: int) -> None:
    arrays = made.store.load(2 * half, ["hic", "h3k27ac"], "GM12878")
    np.testing.assert_array_equal(arrays.signals[:, :, 0], made.expected("GM12878", 2 * half, "hic"))
    np.testing.assert_array_equal(arrays.signals[:, :, 1], made.expected("GM12878", 2 * half, "h3k27ac"))
    whole = np.concatenate([part.rows.sequence for part in made.partitions if part.cell_type == "GM12878"])
    start = WINDOW_BP // 2 - half
    assert arrays.sequence is not None
    np.testing.assert_array_equal(arrays.sequence, whole[:, start : start + 2 * half])


def test_shapes_types_and_names(made: Made) -> None:
    arrays = made.store.load(1000, ["dnase"], "K562")
    assert arrays.sequence is not None
    assert (arrays.sequence.shape, arrays.sequence.dtype) == ((24, 1000), np.uint8)
    assert (arrays.signals.shape, arrays.signals.dtype) == ((24, 1000, 1), np.float32)
    assert (arrays.scalars.shape, arrays.scalars.dtype) == ((24, 2), np.float32)
    assert (arrays.label.shape, arrays.label.dtype) == ((24,), np.float32)
    assert arrays.gene_id.dtype.kind == arrays.chrom.dtype.kind == "U"
    assert (arrays.signal_names, arrays.scalar_names) == (("dnase",), ("utr5_len", "cds_gc"))
    assert arrays.window_bp == 1000


def test_store_order_is_chromosome_then_tss(made: Made) -> None:
    genes = made.store.genes("K562")
    assert list(genes.columns) == ["gene_id", "gene_name", "chrom", "tss", "strand", "label"]
    assert list(genes["chrom"].unique()) == ["chr1", "chr2", "chr10", "chrX"]
    assert genes["tss"].dtype == np.int64
    assert genes["label"].dtype == np.float32
    assert list(made.store.load(2, [], "K562").gene_id) == list(genes["gene_id"])
    truth = np.concatenate([part.rows.genes["label"] for part in made.partitions if part.cell_type == "K562"])
    np.testing.assert_array_equal(genes["label"], truth)


def test_the_table_of_genes_is_the_callers_own(made: Made) -> None:
    table = made.store.genes("K562")
    table.loc[:, "tss"] = -1
    assert made.store.genes("K562")["tss"].min() == 100


def test_genes_come_in_the_order_asked_for(made: Made) -> None:
    whole = made.store.load(3000, ["dnase", "hic"], "K562")
    order = [20, 3, 3, 7, 0]
    asked = [str(gene) for gene in whole.gene_id[order]]
    assert_same(made.store.load(3000, ["dnase", "hic"], "K562", genes=asked), whole.take(order))


def assert_same(one: GeneArrays, other: GeneArrays) -> None:
    for name in ("gene_id", "chrom", "sequence", "signals", "scalars", "label"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.signal_names, one.scalar_names, one.window_bp) == (
        other.signal_names,
        other.scalar_names,
        other.window_bp,
    )


def test_spare_memory_is_taken_where_it_has_room_and_changes_nothing(made: Made) -> None:
    ids = made.store.genes("K562")["gene_id"].tolist()
    five, three = ids[5:0:-1], [ids[7], ids[2], ids[9]]
    expected = made.store.load(1000, ["hic"], "K562", three)
    spare = made.store.load(1000, ["dnase"], "K562", five)
    given = made.store.load(1000, ["hic"], "K562", three, spare=spare)
    for name in ("sequence", "signals", "scalars", "label", "gene_id"):
        np.testing.assert_array_equal(getattr(given, name), getattr(expected, name), err_msg=name)
    assert np.shares_memory(given.signals, spare.signals)
    assert np.shares_memory(given.sequence, spare.sequence)
    for genes, window_bp in ((ids[:6], 1000), (three, 998)):
        other = made.store.load(window_bp, ["hic"], "K562", genes, spare=spare)
        np.testing.assert_array_equal(other.signals, made.store.load(window_bp, ["hic"], "K562", genes).signals)
        assert not np.shares_memory(other.signals, spare.signals)
    assert made.store.load(1000, ["hic"], "K562", three, sequence=False, spare=spare).sequence is None


def test_many_row_groups(tmp_path: Path) -> None:
    recipe = Recipe(window_bp=20, n_genes=600, chroms=("chr1", "chr2"), cell_types=("K562",))
    partitions = make_store(tmp_path / "store", recipe)
    store = prism_ray.store.open(tmp_path / "store")
    whole = store.load(20, ["h3k27ac"], "K562")
    np.testing.assert_array_equal(
        whole.signals[:, :, 0], np.concatenate([part.rows.signals["h3k27ac"] for part in partitions])
    )
    order = np.random.default_rng(1).permutation(1200)[:500]
    asked = [str(gene) for gene in whole.gene_id[order]]
    assert_same(store.load(20, ["h3k27ac"], "K562", genes=asked), whole.take(order))


def test_no_genes_asked_for(made: Made) -> None:
    arrays = made.store.load(100, ["dnase"], "K562", genes=[])
    assert len(arrays) == 0
    assert arrays.signals.shape == (0, 100, 1)


def test_without_signals_sequence_and_scalars(made: Made) -> None:
    arrays = made.store.load(100, [], "K562", sequence=False, scalars=())
    assert arrays.sequence is None
    assert arrays.signals.shape == (24, 100, 0)
    assert arrays.scalars.shape == (24, 0)
    assert arrays.label.std() > 0


def test_scalars_in_the_order_asked_for(made: Made) -> None:
    both = made.store.load(2, [], "K562", scalars=("cds_gc", "utr5_len"))
    truth = np.concatenate([part.rows.scalars for part in made.partitions if part.cell_type == "K562"])
    np.testing.assert_array_equal(both.scalars, truth[:, ::-1])
    assert both.scalar_names == ("cds_gc", "utr5_len")
    np.testing.assert_array_equal(made.store.load(2, [], "K562").scalars, truth)


def test_float16_is_read_as_the_nearest_float16(made: Made) -> None:
    signals = made.store.load(WINDOW_BP, ["dnase"], "K562").signals[:, :, 0]
    exact = made.expected("K562", WINDOW_BP, "dnase")
    np.testing.assert_array_equal(signals, exact.astype(np.float16).astype(np.float32))
    assert (signals != exact).any()


def test_store_without_dna_scalars_and_signals(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=10, sequence=False, scalars=(), signals={}))
    store = prism_ray.store.open(tmp_path / "store")
    assert (store.has_sequence, store.scalar_names, store.signals) == (False, (), ())
    arrays = store.load(10, [], "K562", sequence=False)
    assert arrays.scalars.shape == (24, 0)


def test_description(made: Made) -> None:
    store = made.store
    assert store.window_bp == WINDOW_BP
    assert store.cell_types == ("K562", "GM12878")
    assert store.signals == ("h3k27ac", "dnase", "hic")
    assert store.has_sequence
    assert store.folds.roles("fold_1")["chr2"] == "test"
    assert store.description.ring_bounds == (0, 1000, 2000, 2500)


def test_a_store_travels_to_another_process(made: Made) -> None:
    copy: Store = pickle.loads(pickle.dumps(made.store))
    assert copy.digest == made.store.digest
    assert_same(copy.load(100, ["hic"], "K562"), made.store.load(100, ["hic"], "K562"))


def test_bytes_are_in_proportion_to_what_is_asked_for(tmp_path: Path) -> None:
    wide = Recipe(window_bp=64_000, cell_types=("K562",), chroms=("chr1",), sequence=False, scalars=())
    wide.signals = {"a": "float32", "b": "float32", "c": "float32"}
    narrow = Recipe(**{**vars(wide), "window_bp": 2000})
    make_store(tmp_path / "wide", wide)
    make_store(tmp_path / "narrow", narrow)
    store = prism_ray.store.open(tmp_path / "wide")
    one = store.bytes_to_read(2000, ["a"], "K562", sequence=False)
    assert store.bytes_to_read(2000, ["a", "b", "c"], "K562", sequence=False) == pytest.approx(3 * one, rel=0.02)
    assert store.bytes_to_read(64_000, ["a"], "K562", sequence=False) == pytest.approx(32 * one, rel=0.1)
    small = prism_ray.store.open(tmp_path / "narrow").bytes_to_read(2000, ["a"], "K562", sequence=False)
    assert one == pytest.approx(small, rel=0.05)
    assert store.bytes_to_read(2000, [], "K562", sequence=False) == 0


def test_bytes_of_genes_on_one_chromosome(made: Made) -> None:
    whole = made.store.bytes_to_read(1000, ["hic"], "K562")
    part = made.store.bytes_to_read(1000, ["hic"], "K562", genes=["chr2_gene1", "chr2_gene0"])
    assert part == pytest.approx(whole / 4, rel=0.05)


def test_load_reads_the_columns_asked_for_only(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from prism_ray.store import read

    asked: set[str] = set()
    real = read.PartitionFile.read

    def spy(self: object, row_groups: object, columns: object, **options: object) -> object:
        asked.update(columns)  # type: ignore[arg-type]
        return real(self, row_groups, columns, **options)  # type: ignore[arg-type]

    store = prism_ray.store.open(made.path)
    monkeypatch.setattr(read.PartitionFile, "read", spy)
    store.load(2000, ["hic"], "K562", sequence=False, scalars=())
    assert asked == {"gene_id", "label", "hic__0_1000"}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"signals": ["dnas"]}, r"signals: 'dnas' is not in the store; use one of .* Did you mean 'dnase'\?"),
        ({"signals": ["dnase", "dnase"]}, "signals: 'dnase' is named twice; keep one of the two"),
        ({"cell_type": "K-562"}, r"cell_type: 'K-562' is not in the store; .* Did you mean 'K562'\?"),
        ({"window_bp": 5002}, "window_bp: 5002 is longer than the stored window of 5000; use at most 5000, or build"),
        ({"window_bp": 99}, "window_bp: 99 is not an even number of at least 2"),
        ({"window_bp": 0}, "window_bp: 0 is not an even number"),
        ({"genes": ["chr1_gene0", "chr1_gen1"]}, r"genes: 1 of 2 ids are not in the store: chr1_gen1; .*'chr1_gene1'"),
        ({"genes": [f"x{i}" for i in range(9)]}, r"genes: 9 of 9 ids .*: x0, x1, x2, x3, x4, \.\.\.; ids are those"),
        ({"scalars": ("cds",)}, r"scalars: 'cds' is not in the store; .*cds_gc"),
        ({"scalars": ("cds_gc", "cds_gc")}, "scalars: 'cds_gc' is named twice"),
    ],
)
def test_what_the_store_has_not_is_refused(made: Made, request_: dict[str, object], message: str) -> None:
    asked = {"window_bp": 100, "signals": ["dnase"], "cell_type": "K562", **request_}
    with pytest.raises(ConfigError, match=message):
        made.store.load(**asked)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        made.store.bytes_to_read(**asked)  # type: ignore[arg-type]
    assert len(made.store.faults(**asked)) == 1  # type: ignore[arg-type]


def test_all_faults_of_a_request_are_reported_together(made: Made) -> None:
    with pytest.raises(ConfigError) as error:
        made.store.load(7, ["x", "y"], "K562", genes=["nobody"], scalars=("z",))
    assert len(error.value.faults) == 5


def test_faults_say_where_the_request_stands(made: Made) -> None:
    assert made.store.faults(100, ["dnase"], "K562") == ()
    (fault,) = made.store.faults(100, ["dna"], "K562", where="study.yaml: arms.x")
    assert str(fault).startswith("study.yaml: arms.x: signals: 'dna'")


def test_dna_from_a_store_without_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=10, sequence=False))
    store = prism_ray.store.open(tmp_path / "store")
    with pytest.raises(ConfigError, match="sequence: DNA is asked for, and the store has none; set sequence to false"):
        store.load(10, [], "K562")


def test_cell_types_may_have_different_signals(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=10, lacking={"GM12878": "dnase"}))
    store = prism_ray.store.open(tmp_path / "store")
    assert store.signals == ("h3k27ac", "dnase", "hic")
    assert store.signals_of("K562") == store.signals
    assert store.signals_of("GM12878") == ("h3k27ac", "hic")
    assert store.load(10, ["hic"], "GM12878").signals.shape == (24, 10, 1)
    with pytest.raises(ConfigError, match="signals: GM12878 has no 'dnase'; use one of h3k27ac, hic"):
        store.load(10, ["hic", "dnase"], "GM12878")
    with pytest.raises(ConfigError, match="cell_type: 'HeLa' is not in the store"):
        store.signals_of("HeLa")


def test_unknown_cell_type_of_genes(made: Made) -> None:
    with pytest.raises(ConfigError, match="cell_type: 'HeLa' is not in the store; use one of GM12878, K562"):
        made.store.genes("HeLa")


def test_reading_needs_neither_ray_nor_torch() -> None:
    import subprocess

    script = "import sys, prism_ray.store; assert not {'ray', 'torch', 'mlflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(("asked", "of_arrow", "n_threads"), [(None, 1, 1), (None, 2, 2), (2, 1, 2), (1, 2, 1)])
def test_as_many_threads_decode_as_asked_and_change_nothing(
    made: Made, monkeypatch: pytest.MonkeyPatch, asked: int | None, of_arrow: int, n_threads: int
) -> None:
    store = prism_ray.store.open(made.path)
    expected = store.load(3000, ["hic", "dnase"], "K562")
    monkeypatch.setattr(read.pa, "cpu_count", lambda: of_arrow)
    threads: set[int] = set()
    together = threading.Barrier(n_threads)
    whole = fill.PartitionFile.read

    def noted(*args: Any, **options: Any) -> Any:
        # The first piece of each thread waits for those of the others; a thread alone waits for nobody.
        if threading.get_ident() not in threads:
            threads.add(threading.get_ident())
            together.wait(timeout=60)
        return whole(*args, **options)

    monkeypatch.setattr(fill.PartitionFile, "read", noted)
    found = store.load(3000, ["hic", "dnase"], "K562", n_threads=asked)
    assert len(threads) == n_threads
    np.testing.assert_array_equal(found.signals, expected.signals)
    np.testing.assert_array_equal(found.sequence, expected.sequence)
    np.testing.assert_array_equal(found.scalars, expected.scalars)

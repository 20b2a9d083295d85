"""The parts of benchmarks/store.py: each measures some rows and prints them as JSON, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyBigWig
import ray
import torch

import prism_ray.store
from benchmarks.plain_route import PlainRoute, batches
from benchmarks.store import Row
from benchmarks.store_data import CELL_TYPE, CHROMS, SIGNALS, make_catalog, make_genome
from benchmarks.store_fill import WAYS, arrow_alone
from prism_ray.config import RunConfig
from prism_ray.distributed.build import build_store
from prism_ray.distributed.loading import stream_loading, stream_plan
from prism_ray.distributed.loading_choice import LoadingRequest
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.streaming import StreamSource
from prism_ray.features.catalog import load_catalog
from prism_ray.features.signals import open_signal
from prism_ray.store import Store
from prism_ray.training.batches import make_batch
from prism_ray.training.order import TrainingOrder
from prism_ray.training.sources import MemorySource

BATCH = 8
SMALL_PAGES = "load, small pages"
"""Fills without the pages of 2 MiB that NumPy asks for and pyarrow does not: machines take another time for each."""
FILLS = {way: (way, {}) for way in WAYS} | {SMALL_PAGES: ("load", {"NUMPY_MADVISE_HUGEPAGE": "0"})}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sizes:
    """How much data.

    Attributes:
        chrom_bp: length of each of four chromosomes.
        n_few: genes stored at 200 kb, and at 2 kb.
        n_build: genes of a build that is long against what each build takes to start.
        n_many: genes stored at 2 kb.
        n_large: genes of the store that is larger than what is kept at hand; windows of `large_bp`.
        large_bp: length of its windows.
    """

    chrom_bp: int
    n_few: int
    n_build: int
    n_many: int
    n_large: int
    large_bp: int


FULL = Sizes(20_000_000, 1536, 4608, 8192, 8192, 20_000)
QUICK = Sizes(2_000_000, 64, 128, 1024, 512, 4_000)


def data(folder: Path, sizes: Sizes) -> list[Row]:
    """Write the genome and the stores; two workers against one."""
    genome = folder / "genome"
    if (folder / "times.json").is_file():
        times = json.loads((folder / "times.json").read_text())
    else:
        shutil.rmtree(genome, ignore_errors=True)
        make_genome(genome, sizes.chrom_bp)
        few = make_catalog(genome, "few", sizes.n_few, sizes.chrom_bp, 200_000)
        many = make_catalog(genome, "many", sizes.n_many, sizes.chrom_bp, 2000)
        large = make_catalog(genome, "large", sizes.n_large, sizes.chrom_bp, sizes.large_bp)
        times = {}
        build = make_catalog(genome, "build", sizes.n_build, sizes.chrom_bp, 200_000)
        with _cluster():
            for name, catalog in (("long", few), ("longest", build)):
                for n_workers in (2, 1):
                    started = time.perf_counter()
                    _build(catalog, folder / f"{name}_{n_workers}", 200_000, n_workers)
                    times[f"{name}_{n_workers}"] = time.perf_counter() - started
            _build(few, folder / "short", 2000)
            _build(many, folder / "many", 2000)
            _build(large, folder / "large", sizes.large_bp)
        (folder / "times.json").write_text(json.dumps(times))
    rows = []
    for name, n_genes in (("long", sizes.n_few), ("longest", sizes.n_build)):
        one, two = (n_genes / times[f"{name}_{n_workers}"] for n_workers in (1, 2))
        what = f"build of {n_genes:,} genes at 200 kb, two workers against one"
        rows.append(Row(what, two, one, "genes/s", two / one, 1.7))
    return rows


def training(folder: Path, sizes: Sizes) -> list[Row]:
    """Genes into a training loop at 2 kb and three signals, on one core, against the route without a store."""
    torch.set_num_threads(1)
    store = prism_ray.store.open(folder / "many")
    route = PlainRoute(folder / "genome", folder / "genome" / "many.tsv", 2000)
    some = route.gene_ids[:: max(1, len(route.gene_ids) // 160)]
    plain = _rate(len(some), lambda: _drain(batches(route, some, BATCH)))
    config = _config(2000, 1024, sizes.n_many // 2 // BATCH * 3)
    source = MemorySource(store.load(2000, SIGNALS, CELL_TYPE))
    order = TrainingOrder.of(config, store.folds.split("fold_1", source.arrays.chrom), source.arrays.chrom)
    steps = range(order.steps_per_epoch)

    def epoch() -> None:
        for share in source.training_shares(order, steps, 0, 1):
            make_batch(share, CPU)

    cached = _rate(len(steps) * BATCH, epoch)
    taken = _rate(len(steps) * BATCH, lambda: _drain(source.training_shares(order, steps, 0, 1)))
    with _cluster(1):
        streamed = _stream_rate(store, config)
    what = "into a training loop, 2 kb, 3 signals, one core, against gene by gene"
    return [
        Row(f"node cache {what}", cached, plain, "genes/s", cached / plain, 200),
        Row(f"streaming {what}", streamed, plain, "genes/s", streamed / plain, 10),
        Row("a materialised projection, batches of 8, against 20,000/s", taken, 20_000, "genes/s", taken / 20_000, 1),
    ]


def arrow(folder: Path, sizes: Sizes) -> list[Row]:
    """Filling the node cache against pyarrow reading the same columns, each go in a process of its own, in turns."""
    rows = []
    for name, window_bp in (("many", 2000), ("large", sizes.large_bp)):
        n_genes = len(prism_ray.store.open(folder / name).genes(CELL_TYPE))
        fills: dict[str, list[list[float]]] = {way: [] for way in FILLS}
        for _ in range(5):
            for way, goes in fills.items():
                goes.append(_fill(folder / name, window_bp, *FILLS[way]))
        for way, go, when in (
            ("load", 0, "once"),
            (SMALL_PAGES, 0, "once, both into pages of 4 KiB"),
            ("load_over", 1, "again, both into memory used before"),
            ("load", 1, "again, ours into fresh memory"),
        ):
            ours, alone = (statistics.median(goes[go] for goes in fills[one]) for one in (way, "arrow_alone"))
            what = f"filling the node cache {when}, {window_bp / 1000:g} kb, against pyarrow alone"
            rows.append(Row(what, n_genes / ours, n_genes / alone, "genes/s", alone / ours, 0.8))
    return rows


def _fill(store: Path, window_bp: int, way: str, settings: dict[str, str]) -> list[float]:
    """Seconds of the first go of a process, and of those after it."""
    command = [sys.executable, "-m", "benchmarks.store_fill", str(store), str(window_bp), way]
    done = subprocess.run(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True, check=True)
    return [float(seconds) for seconds in json.loads(done.stdout)]


def streaming(folder: Path, sizes: Sizes) -> list[Row]:
    """Streaming in steady state from the large store, against pyarrow reading it from end to end."""
    torch.set_num_threads(1)  # as a trial of one CPU
    store = prism_ray.store.open(folder / "large")
    n_genes = len(store.genes(CELL_TYPE))
    decoded = n_genes * sizes.large_bp * (4 * len(SIGNALS) + 1) / 2**30
    with _cluster():
        config = _config(sizes.large_bp, 1024, sizes.n_large // 2 // BATCH * 3)
        ours = _stream_rate(store, config)
    alone = _rate(n_genes, lambda: arrow_alone(store, sizes.large_bp, keep=False))
    what = f"streaming {sizes.large_bp / 1000:g} kb windows ({decoded:.1f} GiB decoded), against pyarrow alone"
    return [Row(what, ours, alone, "genes/s", ours / alone, 0.5)]


def rings(folder: Path, sizes: Sizes) -> list[Row]:
    """2 kb out of a 200 kb store against a 2 kb store, and one signal of three."""
    long, short = (prism_ray.store.open(folder / name) for name in ("long_1", "short"))
    from_long, from_short = _alternating(
        lambda: long.load(2000, SIGNALS, CELL_TYPE), lambda: short.load(2000, SIGNALS, CELL_TYPE), 15
    )
    n_long, n_short = (store.bytes_to_read(2000, SIGNALS, CELL_TYPE) for store in (long, short))
    signals = {
        names: long.bytes_to_read(200_000, names, CELL_TYPE, sequence=False, scalars=())
        for names in (SIGNALS, *((name,) for name in SIGNALS))
    }
    whole = signals[SIGNALS]
    single = sum(signals[(name,)] for name in SIGNALS)
    ms = 1000.0
    return [
        Row("time of 2 kb out of a 200 kb store, against a 2 kb store", from_long * ms, from_short * ms, "ms",
            from_long / from_short, 1.2, at_most=True),
        Row("bytes of 2 kb out of a 200 kb store, against a 2 kb store", n_long / 1e6, n_short / 1e6, "MB",
            n_long / n_short, 1.2, at_most=True),
        Row("bytes of each signal alone, added up, against all three", single / 1e6, whole / 1e6, "MB",
            single / whole, 1.01, at_most=True),
    ]  # fmt: skip


def spans(folder: Path, sizes: Sizes) -> list[Row]:
    """Windows of 200 kb cut from spans against one call a gene, bigWig and cooler apart."""
    genome = folder / "genome"
    route = PlainRoute(genome, genome / "few.tsv", 200_000)
    genes = prism_ray.store.open(folder / "long_1").genes(CELL_TYPE)
    catalog = load_catalog(genome / "few.yaml")
    sources = catalog.cell_types[CELL_TYPE].signals

    def ours(name: str) -> None:
        with open_signal(sources[name], genome / sources[name].file) as reader:
            for chrom in CHROMS:
                tss = genes.loc[genes["chrom"] == chrom, "tss"].to_numpy(np.int64)
                # As a build reads them: as many at a time as a row group has.
                for start in range(0, len(tss), 64):
                    reader.windows(chrom, tss[start : start + 64], 200_000)

    def one_by_one(numpy: bool) -> None:
        with pyBigWig.open(str(genome / "h3k27ac.bw")) as track:
            for chrom, tss in zip(genes["chrom"], genes["tss"], strict=True):
                values = track.values(chrom, *_inside(tss, sizes), numpy=numpy)
                np.nan_to_num(np.asarray(values, dtype=np.float32))

    def maps() -> None:
        for chrom, tss in zip(genes["chrom"], genes["tss"], strict=True):
            route.contacts(chrom, tss, *_inside(tss, sizes))

    n = len(genes)
    track, contacts = _rate(n, lambda: ours("h3k27ac")), _rate(n, lambda: ours("hic"))
    lists, arrays, each = _rate(n, lambda: one_by_one(False), 1), _rate(n, lambda: one_by_one(True)), _rate(n, maps, 1)
    return [
        Row("bigWig at 200 kb, spans against a call a gene (lists)", track, lists, "genes/s", track / lists, 3),
        Row("bigWig at 200 kb, spans against a call a gene (NumPy)", track, arrays, "genes/s", track / arrays, 1),
        Row("cooler at 200 kb, spans against a call a gene", contacts, each, "genes/s", contacts / each, 10),
    ]


def _inside(tss: int, sizes: Sizes) -> tuple[int, int]:
    return max(tss - 100_000, 0), min(tss + 100_000, sizes.chrom_bp)


def _config(window_bp: int, shuffle_genes: int, n_steps: int) -> RunConfig:
    return RunConfig.model_validate(
        {
            "data": {"window_bp": window_bp, "signals": SIGNALS, "cell_type": CELL_TYPE, "fold": "fold_1"},
            "training": {"batch_size": BATCH, "n_steps": n_steps, "shuffle_genes": shuffle_genes},
        }
    )


def _stream_rate(store: Store, config: RunConfig) -> float:
    """Genes a second of the last two thirds of a run's steps, as tensors and without a model."""
    loading = stream_loading(LoadingRequest("stream", store, (config,)), TrialResources(), 1)
    plan = stream_plan(loading, store, config, 1)
    n_steps = config.training.n_steps
    shares = StreamSource(plan).training_shares(plan.order, range(n_steps), 0, 1)
    started, n_genes = 0.0, 0
    for step, share in enumerate(shares):
        make_batch(share, CPU)
        if step >= n_steps // 3:
            started = started or time.perf_counter()
            n_genes += len(share)
    return (n_genes - BATCH) / (time.perf_counter() - started)


def _cluster(n_cpus: int = 2) -> object:
    """A local Ray cluster for the time of a block; it lives as long as the process and needs no token."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    return ray.init(
        address="local", num_cpus=n_cpus, object_store_memory=2 << 30, include_dashboard=False, log_to_driver=False
    )


def _build(catalog: Path, out: Path, window_bp: int, n_workers: int = 2) -> None:
    shutil.rmtree(out, ignore_errors=True)
    build_store(catalog, out, window_bp, n_workers)


def _drain(items: object) -> None:
    for _ in items:  # type: ignore[attr-defined]
        pass


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _rate(n_genes: int, work: Callable[[], object], n_goes: int = 3) -> float:
    """Genes a second, median of some goes after one that warms up."""
    work()
    return n_genes / statistics.median(_seconds(work) for _ in range(n_goes))


def _alternating(one: Callable[[], object], other: Callable[[], object], n_goes: int = 7) -> tuple[float, float]:
    """Median seconds of two, in turns, so that a busy moment disturbs both."""
    one(), other()
    pairs = [(_seconds(one), _seconds(other)) for _ in range(n_goes)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def main(argv: Sequence[str]) -> None:
    """Run one part: its name, the folder, and maybe --quick."""
    part, folder = argv[0], Path(argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    measures = {each.__name__: each for each in (data, training, arrow, streaming, rings, spans)}
    rows = measures[part](folder, QUICK if "--quick" in argv else FULL)
    print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Building and loading on a Ray cluster of two nodes: run as a script, prints what it found as one line of JSON.

Usage: python -m tests.distributed.two_nodes FOLDER
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
import yaml
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import prism_ray.store
from prism_ray.cli import main as prism_ray_command
from prism_ray.config import DataConfig
from prism_ray.distributed import build
from prism_ray.distributed.build import build_store
from prism_ray.distributed.gpus import node_faults
from prism_ray.distributed.ingest import node_cache, node_reads, shared_projection, start_node_caches
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.streaming import StreamPlan, StreamSource, steps_dataset
from prism_ray.distributed.train import train_on_workers
from prism_ray.distributed.trial import TrialTask
from prism_ray.features.simulate import SimulationConfig, simulate
from prism_ray.store import GeneArrays
from prism_ray.training.checkpoint import load_state
from prism_ray.training.loop import train
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import GeneSource, MemorySource
from tests.distributed.inline_partitions import without_ray
from tests.distributed.streams import LOADING, arrays_of, damage, plan_of, run_config, write_store

CONFIG = run_config(shuffle_genes=20, n_steps=12)


def digest_of(share: GeneArrays) -> str:
    parts = [share.signals.tobytes(), share.scalars.tobytes(), share.label.tobytes(), "".join(share.gene_id).encode()]
    assert share.sequence is not None
    return hashlib.sha256(b"".join([*parts, share.sequence.tobytes()])).hexdigest()


def digests(source: GeneSource, plan: StreamPlan, rank: int) -> list[str]:
    steps = range(3, plan.n_steps)
    return [digest_of(share) for share in source.training_shares(plan.order, steps, rank, plan.n_workers)]


@ray.remote(num_cpus=0)
def cached(plan: StreamPlan, store: Path, data: DataConfig) -> list[list[str]]:
    source = MemorySource(shared_projection(store, plan.digest, data, plan.ledger))
    return [digests(source, plan, rank) for rank in range(plan.n_workers)]


@ray.remote(num_cpus=0)
def streamed(plan: StreamPlan, iterator: Any, rank: int) -> list[str]:
    return digests(StreamSource(plan, iterator), plan, rank)


def on(task: Any, node: str) -> Any:
    return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def compare_batches(store: Path, nodes: list[str]) -> dict[str, Any]:
    """Digests of every batch: from each node's cache, streamed to a worker on each node, and read here."""
    plan = plan_of(store, CONFIG, n_workers=2)
    caches = start_node_caches(store, plan.digest)
    plan = dataclasses.replace(plan, ledger=caches.ledger)
    from_cache = [on(cached, node).remote(plan, store, CONFIG.data) for node in nodes for _ in range(2)]
    by_cache = ray.get(from_cache, timeout=120)
    reads = node_reads(caches)
    parts = steps_dataset(plan, 3).streaming_split(2, equal=False)
    from_stream = [on(streamed, node).remote(plan, parts[rank], rank) for rank, node in enumerate(nodes)]
    memory = MemorySource(arrays_of(store, CONFIG))
    found = {
        "cached": by_cache[1:3],
        "streamed": ray.get(from_stream, timeout=120),
        "reads": reads,
        "streamed_bytes": sum(node_reads(caches).values()) - sum(reads.values()),
        "planned": planned_bytes(store, plan),
        "expected": [digests(memory, plan, rank) for rank in range(2)],
        "n_decoded": [ray.get(node_cache(store, plan.digest, node).n_decoded.remote()) for node in nodes],
    }
    del caches
    return found


def planned_bytes(store: Path, plan: StreamPlan) -> dict[str, int]:
    """Bytes that a node reads for its cache, with the columns that name genes, and all nodes for a stream from step 3.

    By what the files say of themselves: of the cache, of whole files; of a stream, of the row groups of each window.
    """
    opened, data = prism_ray.store.open(store), CONFIG.data
    asked = {"window_bp": data.window_bp, "signals": data.signals, "cell_type": data.cell_type}
    files = [pq.read_metadata(store / entry.path) for entry in opened.description.files]
    columns = [
        file.row_group(group).column(number)
        for file in files
        for group in range(file.num_row_groups)
        for number in range(file.num_columns)
    ]
    names = sum(column.total_compressed_size for column in columns if column.path_in_schema in ("gene_id", "label"))
    gene_ids = opened.genes(data.cell_type)["gene_id"].to_numpy()
    windows = [
        np.concatenate(list(plan.pieces(window))) for task in plan.tasks(3) for window in plan.order.windows(task)
    ]
    return {
        "cache": opened.bytes_to_read(**asked) + names,
        "stream": sum(opened.bytes_to_read(**asked, genes=gene_ids[rows].tolist(), scalars=()) for rows in windows),
    }


def task_of(store: Path, folder: Path) -> TrialTask:
    return TrialTask(
        study="",
        arm="t",
        trial_id="t",
        config=CONFIG,
        store=store,
        data_digest=prism_ray.store.open(store).digest,
        folder=folder,
        resources=TrialResources(n_workers=2),
        loading=LOADING,
    )


class Killed(BaseException):
    """Ends a run from inside, as a kill would."""


class DiesAt:
    """A reporter that ends the run at a step."""

    def report(self, metrics: Any, step: int) -> None:
        if step == 8:
            raise Killed

    def validated(self, metrics: Any, step: int, history: Any) -> bool:
        return False


def run_together(store: Path, folder: Path) -> dict[str, Any]:
    """A run that one worker began in this process and two go on with, streaming, against one of its own."""
    arrays = arrays_of(store, CONFIG)
    split = prism_ray.store.open(store).folds.split("fold_1", arrays.chrom)
    torch.set_num_threads(1)
    alone = train(CONFIG, arrays, split)
    try:
        train(CONFIG, arrays, split, folder=folder, reporter=DiesAt(), placement=Placement(checkpoint_every_steps=6))
    except Killed:
        state = load_state(folder, CONFIG.fingerprint())
    assert state is not None
    record = train_on_workers(task_of(store, folder))
    return {"alone": alone.metrics, "together": record.metrics, "resumed_from": state.step}


def run_damaged(folder: Path) -> dict[str, Any]:
    """`prism-ray train` on two workers that are both told of damage."""
    store = write_store(folder / "damaged")
    path, out = damage(store), folder / "damaged-run"
    config = folder / "t.yaml"
    config.write_text(yaml.safe_dump(CONFIG.model_dump(mode="json")))
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = prism_ray_command(
            ["train", str(config), "--store", str(store), "--out", str(out), "--workers", "2", "--loading", "stream"]
        )
    left = sorted(path.name for path in out.iterdir())
    return {"damaged_code": code, "damage": said.getvalue(), "damaged_file": str(path), "damaged_left": left}


def build_on_nodes(folder: Path) -> dict[str, Any]:
    """A store built by workers that take every CPU of both nodes, and the same built in this process."""
    catalog = folder / "genome" / "catalog.yaml"
    simulate(folder / "genome", SimulationConfig(genes=24, chromosomes=6, seed=3))
    build_store(catalog, folder / "by_all", 2000, n_workers=4)
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch, build)
        build_store(catalog, folder / "by_one", 2000)
    files = [
        {path.relative_to(folder / name): path.read_bytes() for path in (folder / name).rglob("*") if path.is_file()}
        for name in ("by_all", "by_one")
    ]
    return {"builds_equal": files[0] == files[1], "n_files": len(files[0])}


def main(folder: Path) -> None:
    node = {"num_cpus": 2, "object_store_memory": 300 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node, num_gpus=1)  # which PyTorch does not find
        ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")
        nodes = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])
        store = write_store(folder / "store")
        found = {
            "nodes": nodes,
            **build_on_nodes(folder),
            **compare_batches(store, nodes),
            **run_together(store, folder / "run"),
            **run_damaged(folder),
            "gpu_faults": [str(fault) for fault in node_faults()],
        }
        sys.stdout.write(json.dumps(found) + "\n")
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

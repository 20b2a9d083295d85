"""Predictions of a trained model for the genes of a store, through Ray Data.

A shard (neighbouring genes in store order) is one item. Workers write parts into a folder beside the final file that
all of them can reach; the driver counts, reports and puts them together. What was interrupted goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import ray
import torch

from prism_ray.distributed.partition_run import PartitionWorker, run_partitions
from prism_ray.distributed.predict_parts import Parts, prediction_table, read_columns, refuse_existing, write_part
from prism_ray.distributed.predict_plan import (
    Device,
    PredictionPlan,
    Selection,
    device_faults,
    plan_prediction,
)
from prism_ray.distributed.runtime import ray_runtime, starts_local_cluster
from prism_ray.errors import ConfigError, Fault, FaultList, InputError
from prism_ray.metrics import regression_metrics
from prism_ray.model import Prism
from prism_ray.store import StorePlace
from prism_ray.training.inference import predict_genes

__all__ = ["Prediction", "PredictionProgress", "Selection", "predict"]


@dataclass(frozen=True)
class PredictionProgress:
    """How far a prediction is.

    Attributes:
        n_done: genes that are predicted.
        n_genes: genes in all.
        message: what has just happened.
    """

    n_done: int
    n_genes: int
    message: str


@dataclass(frozen=True)
class Prediction:
    """What was predicted.

    Attributes:
        path: file, a row a gene.
        cell_type: of the genes.
        window_bp: that the model was given.
        n_genes: rows.
        metrics: against the labels, by path (`plain`, `adjusted`) and name; empty with fewer than two genes.
    """

    path: Path
    cell_type: str
    window_bp: int
    n_genes: int
    metrics: dict[str, dict[str, float]]


def _silent(progress: PredictionProgress) -> None:
    pass


def predict(
    model: Prism | str | Path,
    store: str | StorePlace,
    out: str | Path,
    *,
    selection: Selection | None = None,
    states: bool = False,
    device: Device = "auto",
    n_workers: int | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    on_progress: Callable[[PredictionProgress], None] = _silent,
) -> Prediction:
    """Predict genes of a store with a trained model and write a row a gene to a Parquet file.

    Columns: gene_id, gene_name, chrom, tss (0-based), label, plain, adjusted (null for a model without background
    states), and where `states` one column `state_i` a state with its weights a_i, a list of D float32.

    Args:
        model: trained model, or what `prism_ray.model.load` takes.
        store: the store, in a folder or in a bucket.
        out: file to write; must not exist.
        selection: which genes; all of the model's cell type by default.
        states: whether the weights of the background states are written.
        device: of the workers; `auto` is a GPU where the cluster has one.
        n_workers: shards predicted at a time; as many as there are CPUs, or GPUs, where not given.
        address: of a running Ray cluster; RAY_ADDRESS where not given, else a local one.
        tracking_uri: of the tracking store that a URI of a model is of.
        on_progress: called after each shard.

    Raises:
        InputError: everything that keeps the model from being given these genes, or `out` from being written, before
            any work; then values in the store that are not numbers.
        TrackingError: the model's tracking store cannot be reached or does not have it.
        StoreError: a file of the store is damaged, or workers were lost again and again.
    """
    out = Path(out).absolute()
    faults = FaultList()
    faults.extend(device_faults(device, local=starts_local_cluster(address)))
    plan: PredictionPlan | None = None
    for check in (lambda: refuse_existing(out), lambda: _planned(model, store, selection, states, tracking_uri)):
        try:
            plan = check()
        except InputError as problem:
            faults.extend(problem.faults)
    faults.raise_if_any(InputError)
    assert plan is not None
    with Parts(out, plan.key()) as parts:
        counter = _Counter(plan, on_progress)
        if parts.discarded:
            counter.say("discarded what an earlier prediction of another model or other genes had left")
        sizes = {number: len(plan.shard(number)) for number in range(plan.n_shards)}
        todo = {number: size for number, size in sizes.items() if not parts.finished(number, size)}
        counter.skip(sizes.keys() - todo.keys())
        if todo:
            with ray_runtime(address):
                worker, n_default = _worker_for(device, n_workers)
                run_partitions(
                    worker,
                    (plan, str(parts.path), device),
                    todo,
                    n_workers if n_workers is not None else n_default,
                    lambda number, _: counter.done(number),
                    counter.say,
                    str(out),
                )
        parts.publish(plan.n_shards)
    return _summary(plan, out)


def _planned(
    model: Prism | str | Path,
    store: str | StorePlace,
    selection: Selection | None,
    states: bool,
    tracking_uri: str | None,
) -> PredictionPlan:
    return plan_prediction(model, store, selection or Selection(), states=states, tracking_uri=tracking_uri)


class GenePredictor(PartitionWorker):
    """Predicts shards and writes them as parts.

    Args:
        plan: what is predicted.
        parts: folder, absolute, that every worker can write.
        device: asked for.
    """

    job: ClassVar[str] = "the prediction"

    def __init__(self, plan: PredictionPlan, parts: str, device: Device) -> None:
        self._plan = plan
        self._parts = Path(parts)
        faults = FaultList()
        faults.extend(device_faults(device, local=True))
        self._faults = faults
        on_gpu = device != "cpu" and self.n_gpus > 0 and torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        self._model = plan.model.to(self._device)

    def place(self, number: int) -> str:
        """What a failure of the operating system is told with."""
        return f"{self._parts}: shard {number}"

    def work(self, number: int) -> str:
        """Write one part."""
        self._faults.raise_if_any(ConfigError)  # raised here, where it reaches the driver as text
        plan = self._plan
        genes = plan.shard(number)
        arrays = plan.store.load(
            plan.window_bp,
            plan.trained_on.signals,
            plan.cell_type,
            genes["gene_id"].tolist(),
            sequence=plan.model.inputs.sequence,
            scalars=plan.trained_on.scalars,
        )
        try:
            plain, adjusted, states = predict_genes(self._model, arrays, self._device)
        except InputError as problem:
            first, last = genes["gene_id"].iloc[0], genes["gene_id"].iloc[-1]
            where = f"{plan.store.path}: genes {first} to {last}"
            found = [Fault(f"{where}: {fault.where}", fault.problem, fault.fix) for fault in problem.faults]
            raise InputError(str(problem), found) from None
        write_part(self._parts, number, prediction_table(genes, plain, adjusted, states if plan.states else None))
        return ""


class GpuGenePredictor(GenePredictor):
    """The same on a GPU."""

    n_gpus: ClassVar[float] = 1.0


def _worker_for(device: Device, n_workers: int | None) -> tuple[type[GenePredictor], int | None]:
    """Class of the workers and their number, by what the cluster has; None for as many as there are CPUs.

    Raises:
        ConfigError: a GPU is asked for and the cluster has none, or more workers than it has GPUs.
    """
    n_gpus = int(ray.cluster_resources().get("GPU", 0))
    faults = FaultList()
    if device == "cuda" and n_gpus == 0:
        faults.add("device", "cuda is asked for, and the cluster has no GPU", "use --device cpu, or another cluster")
    elif device != "cpu" and n_gpus and (n_workers or 1) > n_gpus:
        # Ray would wait for the missing GPUs for ever.
        faults.add("workers", f"{n_workers} is more than the cluster's {n_gpus} GPUs", "use fewer, or --device cpu")
    faults.raise_if_any(ConfigError)
    return (GpuGenePredictor, n_gpus) if device != "cpu" and n_gpus else (GenePredictor, None)


class _Counter:
    """Adds up finished shards for `on_progress`."""

    def __init__(self, plan: PredictionPlan, on_progress: Callable[[PredictionProgress], None]) -> None:
        self._plan = plan
        self._on_progress = on_progress
        self._n_done = 0

    def say(self, message: str) -> None:
        self._on_progress(PredictionProgress(self._n_done, len(self._plan.genes), message))

    def skip(self, numbers: set[int]) -> None:
        self._n_done += sum(len(self._plan.shard(number)) for number in numbers)
        if numbers:
            self.say(f"kept {self._n_done:,} genes of an earlier prediction that was interrupted")

    def done(self, number: int) -> None:
        genes = self._plan.shard(number)
        self._n_done += len(genes)
        chroms = dict.fromkeys((genes["chrom"].iloc[0], genes["chrom"].iloc[-1]))
        self.say(f"{' to '.join(chroms)}: {len(genes)} genes")


def _summary(plan: PredictionPlan, out: Path) -> Prediction:
    paths = ["plain", "adjusted"] if plan.n_states else ["plain"]
    columns = read_columns(out, ["label", *paths])
    metrics = {}
    if len(plan.genes) > 1:
        metrics = {path: regression_metrics(columns[path], columns["label"]) for path in paths}
    return Prediction(out, plan.cell_type, plan.window_bp, len(plan.genes), metrics)

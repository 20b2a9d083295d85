"""What is predicted from what: a trained model against a store, checked before any work, and cut into shards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

import prism_ray.store
from prism_ray import __version__
from prism_ray.distributed.gpus import no_cuda
from prism_ray.errors import Fault, FaultList, InputError, PrismRayError, did_you_mean
from prism_ray.model import Prism, TrainedOn, load
from prism_ray.splits import Role
from prism_ray.store import Store, StorePlace

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda")

_POSITIONS_A_SHARD = 512 * 2000
"""Positions (genes x bp) that one shard holds: what a worker that is lost takes with it."""


@dataclass(frozen=True)
class Selection:
    """Which genes of a store.

    Attributes:
        cell_type: theirs; None for the one that the model was trained on.
        genes: ids; None for all.
        part: of a fold, where only its genes are wanted.
        fold: whose part; None for the one that the model was trained on.
        window_bp: length of the window; None for the one that the model was trained on.
    """

    cell_type: str | None = None
    genes: tuple[str, ...] | None = None
    part: Role | None = None
    fold: str | None = None
    window_bp: int | None = None


@dataclass(frozen=True)
class PredictionPlan:
    """Everything that decides what is predicted, and its cut into shards.

    Attributes:
        model: in evaluation mode, on the CPU.
        store: opened.
        cell_type: of the genes.
        window_bp: given to the model.
        genes: rows in store order: gene_id, gene_name, chrom, tss, strand, label.
        states: whether the weights of the background states are wanted.
        shard_genes: genes of every shard but the last.
    """

    model: Prism
    store: Store
    cell_type: str
    window_bp: int
    genes: pd.DataFrame
    states: bool
    shard_genes: int

    @property
    def trained_on(self) -> TrainedOn:
        """Names of the model's inputs."""
        assert self.model.trained_on is not None
        return self.model.trained_on

    @property
    def n_states(self) -> int:
        """Background states of the model."""
        return self.model.config.n_states

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return -(-len(self.genes) // self.shard_genes)

    def shard(self, number: int) -> pd.DataFrame:
        """Genes of a shard, in store order."""
        return self.genes.iloc[number * self.shard_genes : (number + 1) * self.shard_genes]

    def key(self) -> str:
        """Identity of the result: equal for the same numbers of the same genes, wherever they are computed."""
        digest = hashlib.sha256()
        said = [
            __version__,
            self.store.digest,
            self.cell_type,
            self.window_bp,
            self.states,
            self.shard_genes,
            self.model.config.model_dump(mode="json"),
            asdict(self.model.inputs),
            self.trained_on.signals,
            self.trained_on.scalars,
            self.genes["gene_id"].tolist(),
        ]
        digest.update(json.dumps(said, sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
        return digest.hexdigest()


def plan_prediction(
    model: Prism | str | Path,
    store_path: str | StorePlace,
    selection: Selection,
    *,
    states: bool = False,
    tracking_uri: str | None = None,
) -> PredictionPlan:
    """A plan that the store can serve.

    Raises:
        InputError: everything that keeps the model from being given these genes: a model or a store that cannot be
            read, signals or scalars that the store has not, a window longer than stored, an unknown cell type, fold
            or gene, states of a model without any.
    """
    faults = FaultList()
    store, loaded = _opened(store_path, faults), _loaded(model, tracking_uri, faults)
    faults.raise_if_any(InputError)
    assert store is not None
    assert loaded is not None
    trained = loaded.trained_on
    if trained is None:
        faults.add("model", "does not say what it was trained on", "save and load it with the names of its inputs")
        faults.raise_if_any(InputError)
    assert trained is not None
    cell_type, window_bp = _place(trained, selection, faults)
    if states and loaded.config.n_states == 0:
        faults.add("states", "are asked for, and the model has n_states 0", "leave --states out")
    if cell_type is not None:
        # An unknown window is a fault of its own, told already.
        faults.extend(
            store.faults(
                window_bp or 2,
                trained.signals,
                cell_type,
                selection.genes,
                sequence=loaded.inputs.sequence,
                scalars=trained.scalars,
            )
        )
    _check_fold(store, trained, selection, faults)
    faults.raise_if_any(InputError)
    assert cell_type is not None
    assert window_bp is not None
    genes = _chosen(store, trained, cell_type, selection)
    shard_genes = max(1, _POSITIONS_A_SHARD // window_bp)
    return PredictionPlan(loaded.cpu().eval(), store, cell_type, window_bp, genes, states, shard_genes)


def read_gene_ids(path: Path) -> tuple[str, ...]:
    """Ids in a text file, one a line; empty lines and lines that start with # are left out.

    Raises:
        InputError: the file cannot be read, holds no id, more than one word a line, or an id twice.
    """
    faults = FaultList()
    lines: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        faults.add(str(path), f"cannot be read ({reason})", "give a text file with one gene id a line")
    faults.raise_if_any(InputError)
    first: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if len(word.split()) > 1:
            faults.add(f"{path}:{number}", f"{word!r} is more than a gene id", "give one id a line")
        elif word in first:
            faults.add(f"{path}:{number}", f"{word} is in line {first[word]} already", "keep one of the two")
        first.setdefault(word, number)
    if not first:
        faults.add(str(path), "holds no gene id", "give one id a line")
    faults.raise_if_any(InputError)
    return tuple(first)


def device_faults(device: str, *, local: bool) -> list[Fault]:
    """What is wrong with the device asked for, as far as this machine tells; `local`: it does the work itself."""
    faults = FaultList()
    if device not in DEVICES:
        faults.add("device", f"{device!r} is not a device", did_you_mean(device, DEVICES))
    elif device == "cuda" and local and (found := no_cuda()) is not None:
        faults.add(
            "device", f"cuda is asked for, and there is none here: {found}", "use --device cpu, or a GPU machine"
        )
    return list(faults.faults)


def _opened(path: str | StorePlace, faults: FaultList) -> Store | None:
    try:
        return prism_ray.store.open(path)
    except PrismRayError as problem:
        faults.extend(problem.faults)
        return None


def _loaded(model: Prism | str | Path, tracking_uri: str | None, faults: FaultList) -> Prism | None:
    if isinstance(model, Prism):
        return model
    try:
        return load(model, tracking_uri=tracking_uri)
    except InputError as problem:
        faults.extend(problem.faults)
        return None


def _place(trained: TrainedOn, selection: Selection, faults: FaultList) -> tuple[str | None, int | None]:
    """Cell type and window: what is asked for, else what the model was trained on."""
    cell_type = selection.cell_type or trained.cell_type
    if cell_type is None:
        faults.add("cell_type", "is neither given nor known to the model", "name one of the store's with --cell-type")
    window_bp = selection.window_bp or trained.window_bp
    if window_bp is None:
        faults.add("window_bp", "is neither given nor known to the model", "give its training window with --window-bp")
    return cell_type, window_bp


def _check_fold(store: Store, trained: TrainedOn, selection: Selection, faults: FaultList) -> None:
    if selection.part is None:
        if selection.fold is not None:
            faults.add("fold", f"{selection.fold!r} is given without a part", "say which with --part")
        return
    if selection.genes is not None:
        faults.add("part", "is given together with genes", "give one of the two")
    fold = _fold(trained, selection)
    if fold is None:
        faults.add("fold", "is neither given nor known to the model", did_you_mean("", store.folds.names))
    elif fold not in store.folds.names:
        faults.add("fold", f"{fold!r} is not a fold of the store", did_you_mean(fold, store.folds.names))


def _fold(trained: TrainedOn, selection: Selection) -> str | None:
    return selection.fold or (trained.run_config.data.fold if trained.run_config is not None else None)


def _chosen(store: Store, trained: TrainedOn, cell_type: str, selection: Selection) -> pd.DataFrame:
    """Genes selected, in store order."""
    genes = store.genes(cell_type)
    rows = np.arange(len(genes))
    if selection.genes is not None:
        rows = np.flatnonzero(genes["gene_id"].isin(list(selection.genes)))
    elif selection.part is not None:
        fold = _fold(trained, selection)
        assert fold is not None
        rows = getattr(store.folds.split(fold, genes["chrom"].tolist()), selection.part)
    return genes.iloc[rows].reset_index(drop=True)

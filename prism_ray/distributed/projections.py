"""Projections of a store: the part of it that a run reads, and how large it and the model on it are, by what the store
says of its files.

Loads neither Ray nor PyTorch, for plans.
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from prism_ray.config import DataConfig, RunConfig
from prism_ray.store import Store
from prism_ray.workload import n_parameters

CACHED_PROJECTIONS = 4
"""Projections kept a node: trials of a study come in few kinds, and the object store is not large."""


def projection_key(data: DataConfig) -> str:
    """What decides the arrays of a projection: equal for runs that differ in their fold alone."""
    return json.dumps(data.model_dump(mode="json", exclude={"fold"}), sort_keys=True)


def gene_bytes(data: DataConfig) -> int:
    """Bytes of a gene's inputs along the window, decoded."""
    return data.window_bp * (4 * len(data.signals) + int(data.sequence))


def projection_bytes(store: Store, config: RunConfig) -> int:
    """Bytes of all genes that a run reads, decoded; no file of the store is read."""
    n_genes = sum(entry.rows for entry in store.description.files_of(config.data.cell_type))
    return n_genes * gene_bytes(config.data)


def bytes_to_read(store: Store, data: DataConfig) -> int:
    """Compressed bytes of the store that a projection takes, with the columns that name its genes.

    Raises:
        ConfigError, StoreError: as `Store.load`.
    """
    arrays = store.bytes_to_read(
        data.window_bp, data.signals, data.cell_type, sequence=data.sequence, scalars=data.scalars
    )
    return arrays + store.naming_bytes(data.cell_type)


def model_parameters(store: Store, config: RunConfig) -> int:
    """Trained values of the model that a run trains."""
    data = config.data
    n_scalars = len(store.scalar_names if data.scalars == "all" else data.scalars)
    return n_parameters(config.model, len(data.signals), n_scalars, sequence=data.sequence)


def read_run(config: RunConfig) -> RunConfig:
    """A run that reads the projection of the store that this one reads: of an evaluation with the trained window."""
    data = config.evaluated_data().model_copy(update={"window_bp": config.data.window_bp})
    return config.trained().model_copy(update={"data": data})


def gene_chroms(store: Store, cell_type: str) -> NDArray[np.str_]:
    """(N,) chromosome of each gene of a cell type, in store order, by what the store says of its files."""
    files = store.description.files_of(cell_type)
    return np.repeat([file.chrom for file in files], [file.rows for file in files])

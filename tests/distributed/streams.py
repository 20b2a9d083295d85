"""A small store to stream from, and what a pipeline without Ray would give."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import prism_ray.store
from prism_ray.config import DataConfig, LossConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from prism_ray.distributed.loading import stream_plan
from prism_ray.distributed.loading_choice import Loading
from prism_ray.distributed.streaming import StreamPlan, _read_windows
from prism_ray.store import GeneArrays
from tests.store.factory import Recipe, make_store

LOADING = Loading("stream", reader_cpus=0.5, buffer_bytes=32 << 20)


def write_store(out: Path) -> Path:
    """Store of one cell type with 280 genes on four chromosomes, of which two train."""
    make_store(out, Recipe(window_bp=1200, cell_types=("K562",), n_genes=70))
    return out


def run_config(shuffle_genes: int = 0, n_steps: int = 40, batch_size: int = 8) -> RunConfig:
    """A network that trains in a second."""
    return RunConfig(
        data=DataConfig(fold="fold_1", window_bp=200, signals=("h3k27ac", "hic")),
        model=ModelConfig(d_model=8, n_layers=1, d_state=4, n_states=2, confounder_channels=2),
        loss=LossConfig(),
        optimizer=OptimizerConfig(learning_rate=5.0e-3, final_learning_rate=1.0e-3),
        training=TrainingConfig(
            n_steps=n_steps, batch_size=batch_size, precision="float32", shuffle_genes=shuffle_genes
        ),
    )


def plan_of(store: Path, config: RunConfig, n_workers: int = 1) -> StreamPlan:
    return stream_plan(LOADING, prism_ray.store.open(store), config, n_workers)


def arrays_of(store: Path, config: RunConfig) -> GeneArrays:
    data = config.data
    return prism_ray.store.open(store).load(data.window_bp, data.signals, data.cell_type)


def assert_same(streamed: GeneArrays, expected: GeneArrays) -> None:
    """Equal to the bit, and writable, as torch wants them."""
    assert streamed.gene_id.tolist() == expected.gene_id.tolist()
    assert streamed.chrom.tolist() == expected.chrom.tolist()
    for name in ("sequence", "signals", "scalars", "label"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(expected, name), err_msg=name)
        assert getattr(streamed, name).flags.writeable, name
    assert (streamed.signal_names, streamed.scalar_names) == (expected.signal_names, expected.scalar_names)
    assert streamed.window_bp == expected.window_bp


@dataclass
class Dealt:
    """One worker's part of the pieces, dealt out in turn as Ray Data does."""

    tables: list[Any]

    def iter_batches(self, **_: Any) -> Iterator[Any]:
        yield from self.tables


def dealt(plan: StreamPlan, first_step: int) -> list[Dealt]:
    """Part of each worker, without Ray."""
    tables = [
        # As Ray does, which copies a block before the next is asked for: a task writes its memory over.
        pickle.loads(pickle.dumps(table))
        for task in plan.tasks(first_step)
        for table in _read_windows(pa.table({"start": [task.start], "stop": [task.stop]}), plan)
    ]
    return [Dealt(tables[rank :: plan.n_workers]) for rank in range(plan.n_workers)]


def damage(store: Path, chrom: str = "chrX", column: str = "h3k27ac__0_600") -> Path:
    """Flip a byte inside a page of a column on a chromosome that trains; file sizes and footers stay."""
    (path,) = (store / "cell_type=K562" / f"chrom={chrom}").glob("*.parquet")
    metadata = pq.read_metadata(path)
    group = metadata.row_group(metadata.num_row_groups - 1)
    columns = [group.column(index) for index in range(group.num_columns)]
    (chunk,) = (one for one in columns if one.path_in_schema.split(".")[0] == column)
    content = bytearray(path.read_bytes())
    first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    content[first + chunk.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(content)
    return path

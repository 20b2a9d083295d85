"""Trains the full grid that benchmarks/search.py replays: a small real Prism on simulated data, once for each setting.

    python benchmarks/search_grid.py            writes benchmarks/search_grid.json; about twenty minutes on two cores

The two landscapes are two cell types on two folds of one simulated genome. The search's own settings may be tuned on
`tuning` and are judged on `judged`. A curve is the lowest validation MSE up to each validation: what a trial would be
told by if it ended there. A setting whose loss is no longer a number has an empty curve.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ray
import torch

import prism_ray.store
from prism_ray.config import RunConfig, patched
from prism_ray.distributed.build import build_store
from prism_ray.errors import TrainingError
from prism_ray.features.simulate import SimulationConfig, simulate
from prism_ray.store import GeneArrays, Store
from prism_ray.training.loop import train

TABLE = Path(__file__).with_name("search_grid.json")
GENOME = {"genes": 600, "chromosomes": 8, "seed": 7}
LEVELS: dict[str, tuple[Any, ...]] = {
    "model.n_states": (0, 2),
    "data.window_bp": (128, 256),
    "data.signals": (
        ("h3k27ac",),
        ("dnase",),
        ("hic",),
        ("h3k27ac", "dnase"),
        ("h3k27ac", "hic"),
        ("dnase", "hic"),
        ("h3k27ac", "dnase", "hic"),
    ),
    "optimizer.learning_rate": (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2),
    "model.d_model": (8, 16),
}
"""Searched settings with their levels; the last one changes fastest in the table."""
FIXED = {
    "model.n_layers": 1,
    "model.d_state": 4,
    "optimizer.final_learning_rate": 1e-5,
    "training.batch_size": 8,
    "training.n_steps": 162,
    "training.precision": "float32",
    "training.validate_every_epochs": 0.24,
}
LANDSCAPES = {
    "judged": {"data.cell_type": "K562", "data.fold": "fold_1"},
    "tuning": {"data.cell_type": "GM12878", "data.fold": "fold_4"},
}
N_PROCESSES = 2


def settings() -> Iterator[dict[str, Any]]:
    """Every setting of the grid, in the order of the table."""
    for values in product(*LEVELS.values()):
        yield dict(zip(LEVELS, values, strict=True))


@lru_cache(maxsize=1)
def _store(folder: str) -> Store:
    return prism_ray.store.open(Path(folder))


@lru_cache(maxsize=64)
def _genes(folder: str, window_bp: int, signals: tuple[str, ...], cell_type: str) -> GeneArrays:
    return _store(folder).load(window_bp, signals, cell_type)


def curve(asked: tuple[str, dict[str, Any]]) -> list[tuple[int, float]]:
    """Finished steps and lowest validation MSE so far, at each validation of one setting."""
    folder, patch = asked
    torch.set_num_threads(1)
    config = patched(RunConfig(), patch, "grid")
    data = config.data
    genes = _genes(folder, data.window_bp, data.signals, data.cell_type)
    try:
        result = train(config, genes, _store(folder).folds.split(data.fold, genes.chrom))
    except TrainingError:
        return []
    lowest, points = float("inf"), []
    for entry in result.history:
        if "val/mse" in entry:
            lowest = min(lowest, entry["val/mse"])
            points.append((int(entry["step"]), lowest))
    return points


def landscape(store: Path, place: dict[str, str]) -> dict[str, Any]:
    """All curves at one place: the steps of the validations, and a row of values a setting."""
    asked = [(str(store), {**FIXED, **place, **setting}) for setting in settings()]
    with multiprocessing.get_context("spawn").Pool(N_PROCESSES) as pool:
        points = []
        for number, one in enumerate(pool.imap(curve, asked), start=1):
            points.append(one)
            if number % 20 == 0:
                print(f"{place}: {number} of {len(asked)}", file=sys.stderr, flush=True)
    steps = [step for step, _ in max(points, key=len)]
    return {"place": place, "steps": steps, "curves": [[float(f"{value:.5g}") for _, value in one] for one in points]}


def main(argv: list[str] | None = None) -> int:
    """Train the grid and write its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=TABLE)
    args = parser.parse_args(argv)
    started = time.time()
    with tempfile.TemporaryDirectory() as scratch:
        genome, store = Path(scratch) / "genome", Path(scratch) / "store"
        simulate(genome, SimulationConfig(**GENOME))
        ray.init(address="local", num_cpus=2, object_store_memory=200 * 2**20, include_dashboard=False)
        build_store(genome / "catalog.yaml", store)
        ray.shutdown()
        found = {name: landscape(store, place) for name, place in LANDSCAPES.items()}
    content = {
        "made_by": "python benchmarks/search_grid.py",
        "genome": GENOME,
        "fixed": FIXED,
        "levels": {path: list(levels) for path, levels in LEVELS.items()},
        "minutes": round((time.time() - started) / 60, 1),
        "n_processes": N_PROCESSES,
        "landscapes": found,
    }
    args.out.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

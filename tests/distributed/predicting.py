"""A small store, a model for it, and predictions without the seconds that Ray takes to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from prism_ray.config import DataConfig, ModelConfig, RunConfig
from prism_ray.distributed import predict as module
from prism_ray.distributed import predict_plan
from prism_ray.model import InputShape, Prism, load, save
from tests.distributed.inline_partitions import without_ray
from tests.store.factory import Recipe, make_store

WINDOW = 256
RECIPE = Recipe(window_bp=WINDOW, chroms=("chr1", "chr2", "chr10", "chrX"), n_genes=6, lacking={"GM12878": "hic"})
SIGNALS = ("dnase", "h3k27ac")
"""Not the order of the store."""
N_GENES = RECIPE.n_genes * len(RECIPE.chroms)


def make_model(folder: Path, *, n_states: int = 2, **changes: Any) -> Path:
    """Folder of a model that was trained on fold_1 of K562, with batch-norm statistics that are not the first ones."""
    settings = ModelConfig(d_model=8, n_layers=1, d_state=4, n_states=n_states, confounder_channels=2, centre_bp=100)
    model = Prism(settings, InputShape(len(SIGNALS), 2), seed=3)
    if model.state_encoder is not None:
        with torch.no_grad():
            model.state_encoder.projection.weight.mul_(5)
    data = DataConfig(signals=SIGNALS, window_bp=WINDOW, cell_type="K562", fold="fold_1")
    names: dict[str, Any] = {
        "run_config": RunConfig(data=data, model=settings),
        "scalars": ("cds_gc", "utr5_len"),
        **changes,
    }
    save(model, folder, **names)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predict") / "store"
    make_store(out, RECIPE)
    return out


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("predict") / "model")


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shards of five genes, done in this process."""
    without_ray(monkeypatch, module)
    monkeypatch.setattr(module.ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(predict_plan, "_POSITIONS_A_SHARD", 5 * WINDOW)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def renamed(folder: Path, out: Path, **names: Any) -> Path:
    """A copy of a model that says other things of what it was trained on."""
    again = load(folder)
    again.trained_on = None
    save(again, out, **names)
    return out

"""The example of a trained model in use, as the README shows it, runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import REPOSITORY
from tests.distributed.predicting import N_GENES, inline, model, store

__all__ = ["inline", "model", "store"]

HEADING = "## Using a trained model"
EXAMPLE = """\
import torch
import prism_ray.store
from prism_ray.distributed.predict import Selection, predict
from prism_ray.features.sequence import one_hot
from prism_ray.model import check_names, load, prism_loss

model = load("run/model")  # a folder, runs:/RUN_ID/model, models:/NAME@champion or models:/NAME/3
trained = model.trained_on  # its signals, scalars, window and cell type
genes = prism_ray.store.open("store").load(
    trained.window_bp, trained.signals, trained.cell_type, scalars=trained.scalars
)  # NumPy: sequence, signals, scalars, label
check_names(trained, genes.signal_names, genes.scalar_names)  # of arrays from elsewhere: names and their order
with torch.inference_mode():
    output = model(*map(torch.from_numpy, (one_hot(genes.sequence), genes.signals, genes.scalars)))
output.plain  # (B,)   output.adjusted (B,) or None   output.state_weights (B, D, n) or None
losses = prism_loss(output, torch.from_numpy(genes.label), alpha=1.0, beta=1.0)

# Many genes: Ray Data, resumable, a row a gene; `prism-ray predict run --store store --out test.parquet --part test`
made = predict("run/model", "store", "test.parquet", selection=Selection(part="test"), states=True)
print(made.metrics["plain"]["pearson_r"])
"""


@pytest.mark.usefixtures("inline")
def test_the_example_runs(
    model: Path,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(model)
    (tmp_path / "store").symlink_to(store)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(EXAMPLE, names)
    output, made = names["output"], names["made"]
    assert output.plain.shape == (N_GENES,)  # type: ignore[attr-defined]
    table = pd.read_parquet("test.parquet")
    np.testing.assert_allclose(table["plain"], output.plain[6:12], rtol=1e-5, atol=1e-6)  # type: ignore[attr-defined]
    assert float(capsys.readouterr().out) == made.metrics["plain"]["pearson_r"]  # type: ignore[attr-defined]


def test_the_readme_shows_no_other_example() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    shown = re.findall(rf"^{HEADING}$.*?^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert all(example == EXAMPLE for example in shown)

"""Published numbers of the benchmark, from `published.csv`, to be shown beside ours on the same data and fold.

Sources: Prism, arXiv 2602.21550; all other models, arXiv 2502.13991. All of them are on fold 11 (test chr22 and chrX),
label log10(1 + CAGE), mean and standard deviation over five seeds; an empty cell is a number that could not be
confirmed.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from prism_ray.report.text import mean_std
from prism_ray.tracking.headers import StudyHeader

COMPARED_METRICS = ("mse", "mae", "pearson_r")
NOT_KNOWN = "not known"
_FILE = Path(__file__).with_name("published.csv")


@functools.cache
def published_rows() -> pd.DataFrame:
    """Every published row.

    Columns: benchmark and fold that it was measured on; kind of study that it may stand beside; cell_type of the label;
    model, as its paper calls it; n_states, background states of the rows of Prism; mse, mae, pearson_r, each with its
    `_std`, nan where not known; source.
    """
    return pd.read_csv(_FILE, dtype={"n_states": "Int64"})


def published_for(header: StudyHeader, cell_type: str) -> pd.DataFrame:
    """Published rows that a study's numbers may stand beside; no row unless it ran on that benchmark and fold alone.

    Columns: model, mse, mae, pearson_r (text, mean with standard deviation), source.
    """
    rows = published_rows()
    beside = (rows["benchmark"] == header.benchmark) & (rows["kind"] == header.kind)
    beside &= (rows["cell_type"] == cell_type) & (rows["fold"].map(lambda fold: header.folds == (fold,)))
    found = rows[beside]
    texts = {
        metric: [_text(mean, std) for mean, std in zip(found[metric], found[f"{metric}_std"], strict=True)]
        for metric in COMPARED_METRICS
    }
    sources = [f"published, {fold}, {source}" for fold, source in zip(found["fold"], found["source"], strict=True)]
    return pd.DataFrame({"model": found["model"].tolist(), **texts, "source": sources})


def _text(mean: float, std: float) -> str:
    return NOT_KNOWN if np.isnan(mean) else mean_std(mean, std)

"""What a user would try first on the real tracks: least squares and gradient boosting on the same fold.

    python benchmarks/real_data/baselines.py STORE [--fold fold_11]

Reads the store of docs/real-data.md and prints one row a model; none of it is part of prism_ray.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

import prism_ray.store
from prism_ray.metrics import regression_metrics

TRACKS = ("h3k27ac", "dnase", "h3k4me3")
BIN_BP = 50


def tss_levels(signals: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, S) log10 of the mean over the window + 0.01; signals (N, L, S) without a transform."""
    return np.log10(signals.mean(axis=1, dtype=np.float64) + 0.01)


def binned(signals: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, L / 50 * S) log(1 + x) of the mean of each bin of 50 bp."""
    n_genes, window_bp, n_signals = signals.shape
    bins = signals.reshape(n_genes, window_bp // BIN_BP, BIN_BP, n_signals).mean(axis=2, dtype=np.float64)
    return np.log1p(bins).reshape(n_genes, -1)


def main() -> None:
    """Fit each baseline on the training genes and print its metrics on the test genes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--fold", default="fold_11")
    args = parser.parse_args()
    store = prism_ray.store.open(args.store)
    arrays = store.load(2000, TRACKS, "K562", sequence=False, scalars=())
    split = store.folds.split(args.fold, arrays.chrom)
    # Neither model has a setting to choose, so the validation genes may train.
    rows = np.concatenate([split.train, split.validation])
    levels, bins = tss_levels(arrays.signals), binned(arrays.signals)
    boosting = HistGradientBoostingRegressor(random_state=0)
    models = [
        (f"least squares, {name}", LinearRegression(), levels[:, [index]]) for index, name in enumerate(TRACKS)
    ] + [("least squares, three tracks", LinearRegression(), levels), ("gradient boosting, 50 bp bins", boosting, bins)]
    print(f"{args.fold}: {len(rows)} training genes, {len(split.test)} test genes")
    print(f"{'model':32} {'MSE':>7} {'MAE':>7} {'r':>7}")
    for name, model, features in models:
        model.fit(features[rows], arrays.label[rows])
        metrics = regression_metrics(model.predict(features[split.test]), arrays.label[split.test])
        print(f"{name:32} {metrics['mse']:7.4f} {metrics['mae']:7.4f} {metrics['pearson_r']:7.4f}")


if __name__ == "__main__":
    main()

"""Test predictions of made trials: what `fetch_predictions` would return."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd


def predictions_of(
    trials: pd.DataFrame, errors: Mapping[str, float], n_genes: int = 200, chrom: str = "chr22", n_on_x: int = 0
) -> dict[str, pd.DataFrame]:
    """Predictions by run id: the label plus noise, whose standard deviation an arm's `errors` say.

    Noise is drawn by seed and fold, so that arms of one seed err in the same direction; the last `n_on_x` genes are
    on chrX, where arms do not differ: all have the error 0.5.
    """
    found = {}
    for row in trials.to_dict("records"):
        fold = int(str(row["fold"]).rsplit("_", 1)[-1])
        label = np.random.default_rng(fold).normal(2, 1, n_genes)
        noise = np.random.default_rng([int(row["seed"]), fold]).normal(0, 1, n_genes)
        scale = np.full(n_genes, errors[row["arm"]])
        scale[n_genes - n_on_x :] = 0.5
        found[str(row["run_id"])] = pd.DataFrame(
            {
                "gene_id": [f"fold{fold}gene{index}" for index in range(n_genes)],
                "chrom": [chrom] * (n_genes - n_on_x) + ["chrX"] * n_on_x,
                "label": label.astype(np.float32),
                "prediction": (label + scale * noise).astype(np.float32),
            }
        )
    return found

"""How often verdicts are wrong where nothing differs, and how often they find a published effect where it is there.

    python benchmarks/calibration.py                1,000 simulated studies a row; eight minutes
    python benchmarks/calibration.py --studies 100  fewer

A study has a baseline and four arms over the same seeds, as `confounder_count`. A run's value is a part of its seed,
which all arms share, plus a part of its own; `correlation` is the seed's share of the variance. The standard deviation
over seeds is the published one of Prism on K562 (0.0041, arXiv 2602.21550), and so are the differences of MSE.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prism_ray.statistics import holm, judge, paired_effect

STD = 0.0041
"""Published standard deviation of Prism's K562 test MSE over five seeds."""
MARGIN = 0.002
"""A difference of MSE that does not matter: half of the published standard deviation."""
N_ARMS = 4
EFFECTS = {
    "n = 2 against n = 0, K562": 0.1863 - 0.1789,
    "n = 4 against n = 2, K562": 0.1789 - 0.1762,
    "Prism against Seq2Exp-soft, K562": 0.1856 - 0.1789,
    "Prism against Seq2Exp-soft, GM12878": 0.1873 - 0.1759,
    "Prism against Caduceus with signals, K562": 0.1959 - 0.1789,
}
"""Published differences of test MSE (arXiv 2602.21550, 2502.13991)."""


def study(
    draws: np.random.Generator, n_seeds: int, correlation: float, shift: float
) -> tuple[NDArray[np.float64], list[float]]:
    """Differences (arms, seeds) to the baseline, of which the first arm is lower by `shift`, and Holm's p of each."""
    seed_part = draws.normal(0, STD * np.sqrt(correlation), n_seeds)
    own = draws.normal(0, STD * np.sqrt(1 - correlation), (N_ARMS + 1, n_seeds))
    values = seed_part + own
    values[1] -= shift
    differences = values[1:] - values[0]
    return differences, holm([paired_effect(row).p for row in differences])


def rates(n_studies: int, n_seeds: int, correlation: float, shift: float, margin: float | None) -> Counter[str]:
    """Verdicts on "the first arm is better"; `any`: studies with a wrong verdict on an arm that does not differ."""
    draws = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    for _ in range(n_studies):
        differences, corrected = study(draws, n_seeds, correlation, shift)
        verdicts = [
            judge(row, "better", "minimize", margin=margin, p_corrected=p).verdict
            for row, p in zip(differences, corrected, strict=True)
        ]
        counts[verdicts[0]] += 1
        nulls = verdicts if shift == 0 else verdicts[1:]
        counts["any"] += any(verdict in ("supported", "contradicted") for verdict in nulls)
    return counts


def main(argv: list[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies a row (default 1000)")
    n_studies = parser.parse_args(argv).studies
    error = 0.05 * 0.95 / n_studies
    print(f"{n_studies} simulated studies a row; a rate of 5 % has a standard error of {100 * error**0.5:.1f} %")
    print("\nNothing differs: studies with at least one wrong verdict among four arms (nominal: at most 5 %)")
    for n_seeds in (3, 5, 10):
        # What arms share cancels in their differences: no correlation changes these rates.
        counts = rates(n_studies, n_seeds, 0.0, 0.0, None)
        print(f"  {n_seeds:2d} seeds: {100 * counts['any'] / n_studies:5.1f} %")
    print("\nPower: the first arm is better by a published difference; verdicts on it, in %")
    print(f"  {'':45s} seeds  corr.  supported  inconclusive  equivalent (within {MARGIN})  contradicted")
    for name, shift in EFFECTS.items():
        for n_seeds in (3, 5, 10):
            for correlation in (0.0, 0.5):
                counts = rates(n_studies, n_seeds, correlation, shift, MARGIN)
                cells = [
                    100 * counts[v] / n_studies for v in ("supported", "inconclusive", "equivalent", "contradicted")
                ]
                text = f"{cells[0]:9.1f}  {cells[1]:12.1f}  {cells[2]:25.1f}  {cells[3]:12.1f}"
                print(f"  {name + f' ({shift:.4f})':45s} {n_seeds:5d}  {correlation:5.1f}  {text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

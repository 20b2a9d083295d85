from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from prism_ray.errors import InputError
from prism_ray.metrics import METRICS, direction_of, mae, mse, pearson_r, regression_metrics, spearman_r

PREDICTION = np.array([0.0, 1.0, 2.0, 4.0])
LABEL = np.array([1.0, 1.0, 0.0, 5.0])

moderate = st.floats(-1e3, 1e3, allow_nan=False, width=32)
pairs = st.integers(3, 40).flatmap(
    lambda n: st.tuples(hnp.arrays(np.float32, n, elements=moderate), hnp.arrays(np.float32, n, elements=moderate))
)


def test_errors_by_hand() -> None:
    assert mse(PREDICTION, LABEL) == (1 + 0 + 4 + 1) / 4
    assert mae(PREDICTION, LABEL) == (1 + 0 + 2 + 1) / 4


@given(pairs)
def test_correlations_equal_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, label = pair
    if np.ptp(prediction) < 1e-3 or np.ptp(label) < 1e-3:
        return
    oracle = stats.pearsonr(prediction.astype(np.float64), label.astype(np.float64)).statistic
    assert pearson_r(prediction, label) == pytest.approx(oracle, abs=1e-9)
    assert spearman_r(prediction, label) == pytest.approx(stats.spearmanr(prediction, label).statistic, abs=1e-9)


@given(pairs, st.floats(0.1, 10), moderate)
def test_correlation_ignores_scale_and_offset(pair: tuple[np.ndarray, np.ndarray], scale: float, offset: float) -> None:
    prediction, label = (array.astype(np.float64) for array in pair)
    if np.ptp(prediction) < 1e-2 or np.ptp(label) < 1e-2:
        return
    assert pearson_r(scale * prediction + offset, label) == pytest.approx(pearson_r(prediction, label), abs=1e-6)
    assert pearson_r(prediction, label) == pytest.approx(pearson_r(label, prediction), abs=1e-12)


def test_ties_share_their_mean_rank() -> None:
    tied = [3.0, 1.0, 1.0, 2.0]
    assert spearman_r(tied, [4.0, 1.0, 2.0, 3.0]) == pytest.approx(np.corrcoef([4, 1.5, 1.5, 3], [4, 1, 2, 3])[0, 1])


@pytest.mark.parametrize("metric", [pearson_r, spearman_r])
def test_correlation_of_a_constant_is_not_defined(metric) -> None:  # type: ignore[no-untyped-def]
    assert math.isnan(metric([0.1, 0.1, 0.1], LABEL[:3]))
    assert math.isnan(metric(LABEL[:3], [0.1, 0.1, 0.1]))


@pytest.mark.parametrize("metric", [pearson_r, spearman_r])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_correlation_of_what_is_no_number_is_nan(metric, bad: float) -> None:  # type: ignore[no-untyped-def]
    assert math.isnan(metric([0.1, bad, 0.3], [1.0, 2.0, 3.0]))


def test_huge_and_tiny_values_neither_overflow_nor_vanish() -> None:
    assert pearson_r([1e300, 2e300, 3e300], [1.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert pearson_r([1e-200, 2e-200, 3e-200], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)


def test_float32_input_is_computed_in_float64() -> None:
    prediction = np.array([1e4, 1e4 + 1], dtype=np.float32)
    assert mse(prediction, np.array([1e4, 1e4], dtype=np.float32)) == 0.5


def test_table_is_what_regression_metrics_returns() -> None:
    values = regression_metrics(PREDICTION, LABEL)
    assert list(values) == list(METRICS) == ["mse", "mae", "pearson_r", "spearman_r"]
    assert values["mse"] == 1.5
    assert [METRICS[name].direction for name in values] == ["minimize", "minimize", "maximize", "maximize"]
    assert direction_of("test/pearson_r") == "maximize"
    assert direction_of("val/mse") == "minimize"
    assert direction_of("train/loss") is None


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        ([1.0, 2.0], [1.0], r"prediction has shape \(2,\) and label \(1,\)"),
        ([[1.0], [2.0]], [[1.0], [2.0]], "one value a gene"),
        ([], [], "there are 0 genes"),
        ([1.0], [1.0], "there are 1 genes; this metric needs at least 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(prediction: list[float], label: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        regression_metrics(prediction, label) if len(prediction) != 1 else pearson_r(prediction, label)

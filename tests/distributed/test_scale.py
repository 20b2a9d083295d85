"""What a plan says of launches that are too much for one driver or one tracking server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.distributed import scale
from prism_ray.distributed.scale import driver_load, scale_warnings, tracker_calls


@pytest.mark.parametrize(
    ("n_trials", "n_slots", "trial_s", "said"),
    [
        (25, 8, 600.0, []),
        (10_000, 100, 600.0, []),
        (10_000, 1_000, None, []),
        (10_001, 8, 600.0, ["10,001 trials are more than the 10,000 that were measured"]),
        (10_000, 1_000, 600.0, ["MLflow is asked 528 times a second"]),
        (10_000, 1_000, 10.0, ["busy for 100% of the time", "--max-concurrent 500", "MLflow is asked"]),
    ],
)
def test_what_is_said(n_trials: int, n_slots: int, trial_s: float | None, said: list[str]) -> None:
    found = "\n".join(scale_warnings(n_trials, n_slots, trial_s))
    assert all(words in found for words in said), found
    assert bool(found) == bool(said)


@given(n_slots=st.integers(1, 5_000), trial_s=st.floats(0.1, 1e5))
def test_what_a_warning_asks_for_silences_it(n_slots: int, trial_s: float) -> None:
    if driver_load(n_slots, trial_s) > 0.5:
        fewer = max(1, int(0.5 * trial_s / scale.DRIVER_S))
        assert f"--max-concurrent {fewer:,}" in scale_warnings(10, n_slots, trial_s)[0]
        assert driver_load(fewer, trial_s) <= 0.5 + 1e-9 or fewer == 1


@given(n_slots=st.integers(1, 1_000), trial_s=st.floats(0.1, 1e5))
def test_calls_grow_with_slots_and_fall_with_longer_trials(n_slots: int, trial_s: float) -> None:
    calls = tracker_calls(n_slots, trial_s)
    assert tracker_calls(n_slots + 1, trial_s) > calls
    assert tracker_calls(n_slots, 2 * trial_s) < calls
    assert calls >= n_slots / scale.BATCH_EVERY_S

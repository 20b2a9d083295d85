"""What one driver and one tracking server keep up with; docs/scale.md derives it, benchmarks/scale.py measures it."""

from __future__ import annotations

DRIVER_S = 0.01
"""Seconds of the driver a trial: Ray Tune's bookkeeping (9 ms, measured) and the queue's own."""
TRACKER_CALLS = 17.0
"""Calls to the tracking server a trial beside those in training: 5 for its run (measured), some 12 for its files."""
BATCH_EVERY_S = 2.0
"""A trial logs at most once in so many seconds while it trains."""
SERVER_CALLS = 230.0
"""Calls a second that one MLflow server on PostgreSQL takes: four processes, of which one took 59 (measured)."""
MANY_TRIALS = 10_000
"""Trials of one study up to which driver, plan and status were measured."""
_BUSY = 0.5
"""Part of a limit from which it is said."""


def tracker_calls(n_slots: int, trial_s: float) -> float:
    """Calls a second to the tracking server of so many trials at once, each of `trial_s` seconds."""
    return n_slots * (TRACKER_CALLS / trial_s + 1 / max(BATCH_EVERY_S, min(trial_s, BATCH_EVERY_S)))


def driver_load(n_slots: int, trial_s: float) -> float:
    """Part of its time that the driver is busy; above 1 slots wait for it."""
    return n_slots * DRIVER_S / trial_s


def scale_warnings(n_trials: int, n_slots: int, trial_s: float | None) -> tuple[str, ...]:
    """What of a launch goes beyond one driver or one tracking server, and what to change; empty for nearly all.

    Args:
        n_trials: trials of the study.
        n_slots: trials at once.
        trial_s: seconds of a trial; None where not measured.
    """
    said = []
    if n_trials > MANY_TRIALS:
        said.append(
            f"{n_trials:,} trials are more than the {MANY_TRIALS:,} that were measured: split the study by arms"
        )
    if trial_s is None or trial_s <= 0:
        return tuple(said)
    load, calls = driver_load(n_slots, trial_s), tracker_calls(n_slots, trial_s)
    if load > _BUSY:
        said.append(
            f"the driver is busy for {load:.0%} of the time with {n_slots:,} trials of {trial_s:.3g} s at once: ask "
            f"for fewer (--max-concurrent {max(1, int(_BUSY * trial_s / DRIVER_S)):,}), or split the study by arms"
        )
    if calls > _BUSY * SERVER_CALLS:
        said.append(
            f"MLflow is asked {calls:,.0f} times a second, and one server takes about {SERVER_CALLS:,.0f}: start more "
            "server processes on one PostgreSQL (docs/scale.md); training does not wait for it"
        )
    return tuple(said)

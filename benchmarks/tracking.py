"""What tracking costs a trial: 1,000 trials of 50 metrics in one store, as trials log them.

    python benchmarks/tracking.py [--trials 1000] [--uri http://HOST:PORT]

Each trial opens its run, logs 50 metrics at each of ten validations, hands over a record's files and ends; the next
begins when all of it is delivered. Two times matter: what training waits for (every call of the log), and what
delivering takes in the courier's thread, which a machine with no CPU to spare would take from training. Both are given
as a part of a trial of one minute; the goal is 2 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prism_ray.config import RunConfig
from prism_ray.study.identity import trial_id
from prism_ray.tracking import MlflowTracker, StudyHeader, TrialHeader, default_tracking_uri, fetch_trials
from prism_ray.tracking import mlflow_trial as module
from prism_ray.tracking.courier import process_courier

N_METRICS = 50
N_VALIDATIONS = 10
TRIAL_S = 60.0
FILE_BYTES = {"model/model.safetensors": 2_000_000, "model/config.json": 2_000, "test_predictions.parquet": 60_000}
_LAST_S = 600.0


class _Clock:
    """Adds up the time inside blocks."""

    def __init__(self) -> None:
        self.total_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.total_s += time.perf_counter() - started


def study_header(n_trials: int) -> StudyHeader:
    """A study of two arms and as many seeds as make `n_trials`."""
    return StudyHeader(
        name="tracking-benchmark",
        question="What does tracking cost?",
        claim="",
        source="",
        kind="ablation",
        baseline="n0",
        arms=("n0", "n2"),
        metric="test/mse",
        direction="minimize",
        curve=None,
        seeds=tuple(range(n_trials // 2)),
        folds=("fold_1",),
        n_trials=n_trials,
        cell_types=("K562",),
        study_digest="a" * 64,
        data_digest="b" * 64,
        results_version=1,
        command="python benchmarks/tracking.py",
    )


def trial_header(study: StudyHeader, number: int) -> TrialHeader:
    """The header of a trial, with the settings of a whole config."""
    config = RunConfig().model_copy(update={"seed": number // 2})
    arm = study.arms[number % 2]
    identity = f"{arm}{trial_id(config, study.data_digest)}"
    return TrialHeader(
        study.name, arm, config.seed, "fold_1", "K562", identity, config.fingerprint(), study.data_digest, config.flat()
    )


def run_trial(tracker: MlflowTracker, parent: str, header: TrialHeader, files: dict[str, Path], folder: Path) -> float:
    """Log one trial; seconds that its training would have waited."""
    waited = _Clock()
    with waited.running():
        log = tracker.open_trial(parent, header, journal_path=folder / f"{header.trial_id}.jsonl")
    for validation in range(1, N_VALIDATIONS + 1):
        metrics = {f"val/metric_{number}": number / validation for number in range(N_METRICS)}
        with waited.running():
            log.log(metrics, validation)
    with waited.running():
        log.log({"test/mse": 0.25}, N_VALIDATIONS)
        log.log_files(files)
        log.finish("FINISHED")
    return waited.total_s


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; 0 where the goal is met."""
    parser = argparse.ArgumentParser(description="what tracking costs a trial")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--uri", help="MLflow store (default: an SQLite file in a temporary folder)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tracker = MlflowTracker(args.uri or default_tracking_uri(folder), background=True)
        study = study_header(args.trials)
        parent = tracker.open_study(study, {})
        files = {}
        for name, size in FILE_BYTES.items():
            files[name] = folder / Path(name).name
            files[name].write_bytes(bytes(size))
        delivered = _delivery_clock()
        waits, deliveries = [], []
        for number in range(args.trials):
            before = delivered.total_s
            waits.append(run_trial(tracker, parent, trial_header(study, number), files, folder))
            assert process_courier().flush(_LAST_S)
            deliveries.append(delivered.total_s - before)
        tracker.close_study(parent, "FINISHED", {})
        started = time.perf_counter()
        trials = fetch_trials(tracker.uri, study.name)
        fetch_s = time.perf_counter() - started
        assert len(trials) == args.trials
        assert set(trials["status"]) == {"FINISHED"}
    _show("training waits", waits)
    _show("delivering", deliveries)
    tenth = max(1, args.trials // 10)
    first, last = (statistics.median(part) for part in (deliveries[:tenth], deliveries[-tenth:]))
    print(f"delivering, first and last tenth of the trials: {1e3 * first:.0f} and {1e3 * last:.0f} ms")
    print(f"reading all trials back: {fetch_s:.1f} s")
    return 0 if statistics.median(deliveries) / TRIAL_S < 0.02 else 1


def _delivery_clock() -> _Clock:
    """A clock around everything that the courier's thread does for a trial."""
    clock = _Clock()
    real = module.MlflowTrialLog.deliver

    def timed(log: module.MlflowTrialLog) -> bool:
        with clock.running():
            return real(log)

    module.MlflowTrialLog.deliver = timed  # type: ignore[method-assign]
    return clock


def _show(what: str, seconds: list[float]) -> None:
    median, worst = statistics.median(seconds), max(seconds)
    parts = f"{100 * median / TRIAL_S:.2f} %, at most {100 * worst / TRIAL_S:.2f} % of a one-minute trial"
    print(f"{what}: median {1e3 * median:.1f} ms, longest {1e3 * worst:.0f} ms a trial ({parts})")


if __name__ == "__main__":
    raise SystemExit(main())

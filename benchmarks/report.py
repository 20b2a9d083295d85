"""How long a report of many trials takes, and where the time goes.

    python benchmarks/report.py                 1,000 trials of 50 metrics and 2,000 test genes; makes the store first
    python benchmarks/report.py --store FOLDER  the same, with a store kept in FOLDER and made where it is not there
    python benchmarks/report.py --metric pearson_r     the study's metric is another one of test genes

20 arms of 5 seeds and 10 folds, each trial with 50 metrics, 20 settings, predictions of its fold's test genes and (of
one seed) weights of two background states; an MLflow store in one SQLite file, artifacts beside it. Goal: under 30 s.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prism_ray.metrics import METRICS, regression_metrics
from prism_ray.report.answer import markdown_of, page_of
from prism_ray.report.build import write_report
from prism_ray.report.files import FORMATS, write_files
from prism_ray.report.gather import gather
from prism_ray.tracking import (
    MlflowTracker,
    StudyHeader,
    TrialHeader,
    default_tracking_uri,
    fetch_predictions,
    fetch_trials,
    prepare,
)
from prism_ray.tracking.predictions import PREDICTIONS_NAME, STATES_NAME

GOAL_S = 30.0
ARMS = tuple(f"n{number}" for number in range(20))
SEEDS = (2, 22, 222, 2222, 22222)
N_METRICS, N_SETTINGS, N_CHANNELS = 50, 20, 128


def header_of(n_folds: int, metric: str) -> StudyHeader:
    """A study of 20 arms, 5 seeds and some folds, whose numbers are of a metric of `METRICS`."""
    return StudyHeader(
        name="thousand",
        question="How long does a report of many trials take?",
        claim="",
        source="",
        kind="ablation",
        baseline=ARMS[0],
        arms=ARMS,
        metric=f"test/{metric}",
        direction=METRICS[metric].direction,
        curve="model.n_states",
        seeds=SEEDS,
        folds=tuple(f"fold_{number}" for number in range(1, n_folds + 1)),
        n_trials=len(ARMS) * len(SEEDS) * n_folds,
        cell_types=("K562",),
        study_digest="a" * 64,
        data_digest="b" * 64,
        results_version=1,
        command="prism-ray run thousand",
        tags={"prism.git_commit": "c" * 40, "prism.git_dirty": "false"},
    )


def genes_of(fold: int, n_genes: int) -> pd.DataFrame:
    """Test genes of a fold with their labels; every eighth lies on chrX."""
    label = np.random.default_rng(fold).gamma(1.2, 1.0, n_genes).astype(np.float32)
    names = [f"fold{fold}gene{number}" for number in range(n_genes)]
    return pd.DataFrame(
        {
            "gene_id": names,
            "chrom": ["chr22"] * (n_genes // 8 * 7) + ["chrX"] * (n_genes - n_genes // 8 * 7),
            "label": label,
        }
    )


def track(uri: str, header: StudyHeader, n_genes: int, scratch: Path) -> None:
    """Track every trial of the study, finished, with its files."""
    prepare(uri)
    tracker = MlflowTracker(uri)
    parent = tracker.open_study(header, {})
    draws = np.random.default_rng(0)
    weights = {f"state_{number}": list(draws.random((n_genes, N_CHANNELS), dtype=np.float32)) for number in (1, 2)}
    for fold in header.folds:
        genes = genes_of(int(fold.removeprefix("fold_")), n_genes)
        states = scratch / STATES_NAME
        pd.DataFrame({"gene_id": genes["gene_id"], **weights}).to_parquet(states)
        for arm in header.arms:
            for seed in header.seeds:
                noise = draws.normal(0, 0.4 + 0.002 * ARMS.index(arm), n_genes)
                file = scratch / PREDICTIONS_NAME
                genes.assign(prediction=(genes["label"] + noise).astype(np.float32)).to_parquet(file)
                tested = regression_metrics(genes["label"] + noise, genes["label"])
                best = {f"best/{name}": value for name, value in tested.items()}
                test = {f"test/{name}": value for name, value in tested.items()}
                n_more = N_METRICS - len(best) - len(test) - 1
                metrics = {**best, **test, **{f"more/metric_{number}": tested["mse"] for number in range(n_more)}}
                settings = {f"more.setting_{number}": number for number in range(N_SETTINGS - 2)}
                trial = TrialHeader(
                    study=header.name,
                    arm=arm,
                    seed=seed,
                    fold=fold,
                    cell_type="K562",
                    trial_id=f"{arm}-{seed}-{fold}",
                    fingerprint="f" * 64,
                    data_digest=header.data_digest,
                    parameters={"model.n_states": ARMS.index(arm), "seed": seed, **settings},
                )
                log = tracker.open_trial(parent, trial)
                log.log({"cost/train_s": 60.0, **metrics}, 100)
                log.log_files({PREDICTIONS_NAME: file, **({STATES_NAME: states} if seed == SEEDS[0] else {})})
                log.finish("FINISHED")
    tracker.close_study(parent, "FINISHED", {})


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a block took."""
    started = time.perf_counter()
    yield
    print(f"{what:34s} {time.perf_counter() - started:7.1f} s", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Print the parts and the whole; 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=10, help="folds of 100 trials each (default 10)")
    parser.add_argument("--genes", type=int, default=2000, help="test genes of a fold (default 2000)")
    parser.add_argument("--metric", choices=METRICS, default="mse", help="of the study (default mse)")
    parser.add_argument("--store", type=Path, help="folder of the MLflow store, made where it is not there")
    args = parser.parse_args(argv)
    header = header_of(args.folds, args.metric)
    with tempfile.TemporaryDirectory(prefix="prism-ray-benchmark-") as scratch:
        folder = args.store or Path(scratch) / "store"
        uri = default_tracking_uri(folder)
        if not (folder / "mlflow.db").exists():
            folder.mkdir(parents=True, exist_ok=True)
            with timed(f"tracking {header.n_trials} trials"):
                track(uri, header, args.genes, Path(scratch))
        MlflowTracker(uri).open_study(header, {})  # the store may be of another metric
        with timed("fetching trials"):
            trials = fetch_trials(uri, header.name)
        with timed("fetching predictions"):
            fetch_predictions(uri, trials["run_id"])
        with timed("gathering, both fetches included"):
            gathered = gather(uri, header.name)
        with timed("page, tables and figures as files"):
            page = page_of(gathered)
            write_files(gathered, page, markdown_of(page), Path(scratch) / "files", FORMATS)
        started = time.perf_counter()
        write_report(uri, header.name, Path(scratch) / "report")
        whole_s = time.perf_counter() - started
    print(f"{'the whole report':34s} {whole_s:7.1f} s   goal {GOAL_S:.0f} s: {'met' if whole_s < GOAL_S else 'missed'}")
    return 0 if whole_s < GOAL_S else 1


if __name__ == "__main__":
    raise SystemExit(main())

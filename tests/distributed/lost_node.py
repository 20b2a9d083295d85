"""A study on a cluster that loses nodes under its trials: run as a script, prints what it found as one line of JSON.

Under the first trial a node goes as a machine does that loses power: its raylet and its workers at once. Under the
second one the raylet alone is killed: its worker lives on for some ten seconds, cut off from the cluster, and may or
may not come to the end of its trial.

Usage: python -m tests.distributed.lost_node STORE FOLDER
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster

from prism_ray.distributed.attempts import Attempt, read_attempts
from prism_ray.distributed.study_run import run_study
from tests.distributed.conftest import Told, study_records
from tests.distributed.killing import PATIENT, Killer, assert_exactly_once, long_settings, long_study

N_NODES = 3
QUICK = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
"""A node that says nothing for 5 s is dead, in place of some 15."""


def main(store: Path, folder: Path) -> None:
    node = {"object_store_memory": 100 << 20}
    head = {**node, "num_cpus": 0, "include_dashboard": False, "_system_config": QUICK}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(**node, num_cpus=1) for _ in range(N_NODES)]
        ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")

        def kill_node(attempt: Attempt) -> None:
            (lost,) = [one for one in nodes if one.node_id == attempt.node]
            raylets = [psutil.Process(one.process.pid) for one in lost.all_processes["raylet"]]
            workers = [worker for raylet in raylets for worker in raylet.children(recursive=True)]
            for one in [*raylets, *(workers if not killer.killed else [])]:
                os.kill(one.pid, signal.SIGKILL)

        study = long_study(folder, seeds=[2])
        settings = long_settings(store, folder, retry=dataclasses.replace(PATIENT, retries=0), max_concurrent=1)
        killer = Killer(settings.storage, seed=5, n_kills=2, kill=kill_node, one_each=True)
        killer.start()
        outcome = run_study(study, settings, Told())
        killed = killer.checked()
        records = study_records(study, settings)
        assert_exactly_once(study, settings, {name: record.metrics for name, record in records.items()}, killed)
        names = {record.folder: name for name, record in records.items()}
        found = {
            "exit_code": outcome.exit_code,
            "failures": outcome.failures,
            "trials": [
                {
                    "name": names[trial],
                    "checkpoint": step,
                    "attempts": [dataclasses.asdict(attempt) for attempt in read_attempts(trial)],
                    "metrics": records[names[trial]].metrics,
                }
                for trial, step in killed
            ],
        }
        sys.stdout.write(json.dumps(found) + "\n")
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""A study on a cluster that loses the node of a trial: run as a script, prints what it found as one line of JSON.

Usage: python -m tests.distributed.lost_node STORE FOLDER
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from prism_ray.distributed.attempts import Attempt, read_attempts
from prism_ray.distributed.study_run import run_study
from tests.distributed.conftest import Told, study_records
from tests.distributed.killing import PATIENT, Killer, assert_exactly_once, long_settings, long_study


def main(store: Path, folder: Path) -> None:
    node = {"object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(**node, num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")

        def kill_raylet(attempt: Attempt) -> None:
            (lost,) = [one for one in nodes if one.node_id == attempt.node]
            for one in lost.all_processes["raylet"]:
                os.kill(one.process.pid, signal.SIGKILL)

        study = long_study(folder, seeds=[2])
        settings = long_settings(store, folder, retry=dataclasses.replace(PATIENT, retries=0), max_concurrent=1)
        killer = Killer(settings.storage, seed=5, n_kills=1, kill=kill_raylet)
        killer.start()
        outcome = run_study(study, settings, Told())
        killed = killer.checked()
        records = study_records(study, settings)
        assert_exactly_once(study, settings, {name: record.metrics for name, record in records.items()}, killed)
        (trial, step) = killed[0]
        attempts = read_attempts(trial)
        name = next(name for name, record in records.items() if record.folder == trial)
        found = {
            "exit_code": outcome.exit_code,
            "failures": outcome.failures,
            "hows": [attempt.how for attempt in attempts],
            "nodes": [attempt.node for attempt in attempts],
            "first_steps": [attempt.first_step for attempt in attempts],
            "checkpoint": step,
            "killed": name,
            "metrics": records[name].metrics,
        }
        sys.stdout.write(json.dumps(found) + "\n")
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

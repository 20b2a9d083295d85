"""In place of `prism-ray` in a Slurm job: says where it runs, then runs a small study; as a script.

Notes in STORAGE/probe.json how it was called, the nodes by address, and who can read the token; in STORAGE/ended.json
what became of the study. The first node has no CPU to spare until STORAGE/cut is there: trials begin on the other one.
Ends as a study with failed trials does.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.workspace import write_whole
from tests.distributed.conftest import Told
from tests.distributed.killing import LONG, long_settings, long_study

N_STEPS = 900


@ray.remote(num_cpus=1)
class Idle:
    """Holds a CPU."""

    def is_there(self) -> bool:
        return True


def main(argv: list[str]) -> None:
    given = dict(itertools.pairwise(argv))
    storage = Path(given["--storage"])
    ray.init(address=given["--address"], log_to_driver=False, logging_level="warning")
    where = ray.remote(num_cpus=1)(ray.util.get_node_ip_address)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    asked = [where.options(scheduling_strategy=At(node, soft=False)).remote() for node in nodes]
    mode = os.stat(os.environ["RAY_AUTH_TOKEN_PATH"]).st_mode & 0o777
    probe: dict[str, Any] = {"args": argv, "nodes": dict(zip(ray.get(asked), nodes, strict=True)), "token_mode": mode}
    study = long_study(storage, seeds=[2], baseline={**LONG, "training.n_steps": N_STEPS})
    settings = long_settings(Path(given["--store"]), storage)
    idle = Idle.options(  # type: ignore[attr-defined]
        scheduling_strategy=At(probe["nodes"][given["--address"].partition(":")[0]], soft=False)
    ).remote()
    assert ray.get(idle.is_there.remote())
    write_whole(storage / "probe.json", json.dumps(probe))
    threading.Thread(target=end_when, args=(idle, storage / "cut"), daemon=True).start()
    told = Told()
    outcome = run_study(study, dataclasses.replace(settings, storage=storage), told)
    ended = {"exit_code": outcome.exit_code, "failures": outcome.failures, "remarks": told.remarks}
    write_whole(storage / "ended.json", json.dumps({**ended, "tracking_uri": settings.tracking_uri}))


def end_when(idle: Any, cut: Path) -> None:
    """Give the CPU back once the link is cut."""
    while not cut.exists():
        time.sleep(0.1)
    ray.kill(idle)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.exit(1)

"""In place of `prism-ray` in a Slurm job: says where it runs, then runs a small study; as a script.

Notes in STORAGE/probe.json how it was called, the nodes by address, and who can read the token; in STORAGE/ended.json
what became of the study. Ends as a study with failed trials does.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.workspace import write_whole
from tests.distributed.conftest import Told
from tests.distributed.killing import LONG, long_settings, long_study

N_STEPS = 600


def main(argv: list[str]) -> None:
    given = dict(itertools.pairwise(argv))
    storage = Path(given["--storage"])
    ray.init(address=given["--address"], log_to_driver=False, logging_level="warning")
    where = ray.remote(num_cpus=1)(ray.util.get_node_ip_address)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    asked = [where.options(scheduling_strategy=At(node, soft=False)).remote() for node in nodes]
    mode = os.stat(os.environ["RAY_AUTH_TOKEN_PATH"]).st_mode & 0o777
    probe = {"args": argv, "nodes": dict(zip(ray.get(asked), nodes, strict=True)), "token_mode": mode}
    write_whole(storage / "probe.json", json.dumps(probe))
    study = long_study(storage, seeds=[2], baseline={**LONG, "training.n_steps": N_STEPS})
    settings = long_settings(Path(given["--store"]), storage)
    told = Told()
    outcome = run_study(study, dataclasses.replace(settings, storage=storage), told)
    ended = {"exit_code": outcome.exit_code, "failures": outcome.failures, "remarks": told.remarks}
    write_whole(storage / "ended.json", json.dumps({**ended, "tracking_uri": settings.tracking_uri}))


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.exit(1)

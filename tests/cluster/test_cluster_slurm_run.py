"""cluster/slurm/study.sbatch on two nodes of this machine: real Ray, a stub of `srun`, a probe in a study's place."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cluster.two_nodes import ADDRESSES, TwoNodes, two_nodes
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
JOB = "7"

# Says how it was called, where tasks of each node run, and who can read the token; ends as a study with failed trials.
PROBE = """\
import json, os, sys
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

ray.init(address=sys.argv[sys.argv.index("--address") + 1], log_to_driver=False, logging_level="warning")
where = ray.remote(num_cpus=1)(ray.util.get_node_ip_address)
nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
found = ray.get([where.options(scheduling_strategy=At(node, soft=False)).remote() for node in nodes])
mode = os.stat(os.environ["RAY_AUTH_TOKEN_PATH"]).st_mode
print("PROBE", json.dumps({"args": sys.argv[1:], "nodes": sorted(found), "token_mode": mode & 0o777}), flush=True)
sys.exit(1)
"""

# Slurm starts the command on every node; here this node is the first, and the other one ends shortly after it.
SRUN = """\
#!/usr/bin/env bash
while [ "${{1#--}}" != "$1" ]; do shift; done
{other} "$@" >"$STATE/other.log" 2>&1 &
other=$!
code=0
"$@" || code=$?
kill -KILL $other 2>/dev/null
wait $other
exit $code
"""


def write_commands(folder: Path, nodes: TwoNodes, node_tmp: str) -> None:
    """The commands that the script finds in BIN."""
    folder.mkdir()
    (folder / "ray").symlink_to(Path(sys.executable).parent / "ray")
    (folder / "prism-ray").write_text(f"#!{sys.executable}\n{PROBE}")
    (folder / "srun").write_text(SRUN.format(other=shlex.join(nodes.command(1, node_tmp))))
    for name in ("prism-ray", "srun"):
        (folder / name).chmod(0o755)


def test_two_nodes_run_one_study(tmp_path: Path) -> None:
    storage = tmp_path / "results"
    # Short, for sockets.
    with two_nodes() as nodes, tempfile.TemporaryDirectory(prefix="prt-") as node_tmp:
        write_commands(tmp_path / "bin", nodes, node_tmp)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        given = {
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NUM_NODES": "2",
            "HEAD_ADDRESS": ADDRESSES[0],
            "BIN": str(tmp_path / "bin"),
            "STORE": "/shared/store",
            "STORAGE": str(storage),
            "TRACKING_URI": "http://mlflow:5000",
            "RUN_FLAGS": "--workers 2",
            "RAY_FLAGS": "--num-cpus 1 --object-store-memory 100000000",
            "NODE_TMP": node_tmp,
            "READY_TIMEOUT_S": "120",
            "HOME": str(tmp_path),
        }
        script = ["bash", str(REPOSITORY / "cluster" / "slurm" / "study.sbatch"), "smoke", "--smoke"]
        done = subprocess.run(
            [*nodes.command(0, node_tmp), *script],
            cwd=tmp_path,
            env={**inherited, **given},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        state = storage / "slurm" / JOB
        other = (state / "other.log").read_text() if (state / "other.log").exists() else ""
        assert "PROBE " in done.stdout, done.stdout + done.stderr + other
        said = json.loads(done.stdout.partition("PROBE ")[2].splitlines()[0])
        assert said["nodes"] == sorted(ADDRESSES)
        assert said["token_mode"] == stat.S_IRUSR | stat.S_IWUSR
        assert said["args"] == [
            *("run", "smoke", "--smoke", "--address", f"{ADDRESSES[0]}:13400", "--store", "/shared/store"),
            *("--storage", str(storage), "--tracking-uri", "http://mlflow:5000", "--workers", "2"),
        ]
        # The study's exit code is the job's, and it is nothing to go back into the queue for.
        assert done.returncode == 1, done.stderr
        assert [path.name for path in state.iterdir()] == ["other.log"]

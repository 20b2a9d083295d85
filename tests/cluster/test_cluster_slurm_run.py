"""cluster/slurm/study.sbatch on two nodes of this machine: real Ray, a stub of `srun`, and a study under which the link
between the nodes is cut."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prism_ray.distributed.attempts import read_attempts
from prism_ray.tracking import fetch_trials
from prism_ray.training.checkpoint import saved_step
from prism_ray.training.record import read_record
from tests.cluster.slurm_study import N_STEPS
from tests.cluster.two_nodes import ADDRESSES, TwoNodes, ip, two_nodes
from tests.conftest import REPOSITORY, STARTUP
from tests.distributed.killing import running
from tests.distributed.streams import write_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
JOB = "7"
LINK_TIMEOUT_S = 240
QUICK = {"initial_delay_ms": "1000", "period_ms": "1000", "failure_threshold": "5"}
"""A node that says nothing for 5 s is dead, in place of some 15."""

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
    (folder / "prism-ray").write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -m tests.cluster.slurm_study "$@"\n')
    (folder / "srun").write_text(SRUN.format(other=shlex.join(nodes.command(1, node_tmp))))
    for name in ("prism-ray", "srun"):
        (folder / name).chmod(0o755)


def environment(folder: Path, store: Path, node_tmp: str) -> dict[str, str]:
    """What Slurm and its user give the script."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    given = {
        "SLURM_JOB_ID": JOB,
        "SLURM_JOB_NUM_NODES": "2",
        "HEAD_ADDRESS": ADDRESSES[0],
        "BIN": str(folder / "bin"),
        "STORE": str(store),
        "STORAGE": str(folder / "results"),
        "TRACKING_URI": "http://mlflow:5000",
        "RUN_FLAGS": "--workers 2",
        "RAY_FLAGS": "--num-cpus 1 --object-store-memory 100000000",
        "NODE_TMP": node_tmp,
        "READY_TIMEOUT_S": "120",
        "HOME": str(folder),
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{STARTUP}",
        "RAY_worker_niceness": "0",
        **{f"RAY_health_check_{name}": value for name, value in QUICK.items()},
    }
    return {**inherited, **given}


def wait_for(what: Callable[[], Any], script: subprocess.Popen[str]) -> Any:
    """What a function gives once that is true, while the script runs."""
    end = time.monotonic() + LINK_TIMEOUT_S
    while not (found := what()):
        assert script.poll() is None, script.communicate()[0]
        assert time.monotonic() < end, "the study did not come that far"
        time.sleep(0.1)
    return found


def test_two_nodes_run_one_study_and_survive_a_cut_link(tmp_path: Path) -> None:
    storage, store = tmp_path / "results", write_store(tmp_path / "store")
    # Short, for sockets.
    with two_nodes() as nodes, tempfile.TemporaryDirectory(prefix="prt-") as node_tmp:
        write_commands(tmp_path / "bin", nodes, node_tmp)
        script = subprocess.Popen(
            [
                *nodes.command(0, node_tmp),
                *("bash", str(REPOSITORY / "cluster" / "slurm" / "study.sbatch"), "smoke", "--smoke"),
            ],
            cwd=tmp_path,
            env=environment(tmp_path, store, node_tmp),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            wait_for((storage / "probe.json").exists, script)
            probe = json.loads((storage / "probe.json").read_text())
            far = probe["nodes"][ADDRESSES[1]]

            def trial_there() -> Path | None:
                """Folder of a trial that the other node is in the middle of."""
                found = [folder for folder, attempt in running(storage) if attempt.node == far]
                return found[0] if found and saved_step(found[0]) > 0 else None

            cut_off = wait_for(trial_there, script)
            ip("-n", nodes.names[1], "link", "set", "eth0", "down", check=True)
            (storage / "cut").touch()
            said, _ = script.communicate(timeout=LINK_TIMEOUT_S)
        finally:
            if script.poll() is None:
                os.killpg(script.pid, signal.SIGKILL)
                script.wait()
    assert sorted(probe["nodes"]) == sorted(ADDRESSES)
    assert probe["token_mode"] == stat.S_IRUSR | stat.S_IWUSR
    assert probe["args"] == [
        *("run", "smoke", "--smoke", "--address", f"{ADDRESSES[0]}:13400", "--store", str(store)),
        *("--storage", str(storage), "--tracking-uri", "http://mlflow:5000", "--workers", "2"),
    ]
    # The study's exit code is the job's, and it is nothing to go back into the queue for.
    assert script.returncode == 1, said
    assert [path.name for path in (storage / "slurm" / JOB).iterdir()] == ["other.log"]
    assert_survived(storage, cut_off, far)


def assert_survived(storage: Path, cut_off: Path, far: str) -> None:
    """Both trials are finished, once each; the one that was cut off was not begun anew."""
    ended = json.loads((storage / "ended.json").read_text())
    assert (ended["exit_code"], ended["failures"]) == (0, {})
    records = [read_record(folder) for folder in (storage / "trials").iterdir()]
    assert [record is not None and record.history()[-1]["step"] for record in records] == [N_STEPS] * 2
    trials = fetch_trials(ended["tracking_uri"], "tiny")
    assert sorted(trials["arm"]) == ["n0", "n2"]
    assert set(trials["status"]) == {"FINISHED"}
    # It was finished there, cut off from the cluster but not from the workspace, or taken over from its checkpoint.
    first, *later = read_attempts(cut_off)
    assert first.node == far
    assert all(attempt.node != far and attempt.first_step > 0 for attempt in later)
    assert [first, *later][-1].how == "finished"

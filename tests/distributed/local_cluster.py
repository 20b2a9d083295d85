"""cluster/local/cluster.sh as a test runs it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "cluster" / "local" / "cluster.sh"
COMMIT = "c0ffee" * 6 + "c0ff"
START_TIMEOUT_S = 240
JOB_TIMEOUT_S = 600


def free_ports(n_ports: int) -> list[int]:
    """Ports that nobody uses, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(n_ports)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass(frozen=True)
class LocalCluster:
    """A state folder and the environment that the script is run with; `start` has not been called."""

    state: Path
    environment: dict[str, str]

    @classmethod
    def at(cls, folder: Path, token: str | None = None) -> LocalCluster:
        """Free ports, a token of its own, and nothing of this process's Ray settings or of the user's home."""
        ports = dict(zip(("RAY_PORT", "DASHBOARD_PORT", "MLFLOW_PORT"), map(str, free_ports(3)), strict=True))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        (folder / "home").mkdir()
        (folder / "token").write_text(token or secrets.token_hex(32))
        state = folder / "state"
        environment = {
            **inherited,
            **ports,
            "HOME": str(folder / "home"),
            "NO_PROXY": "127.0.0.1",
            "RAY_worker_niceness": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "BIN": str(Path(sys.executable).parent),
            "N_CPUS": "2",
            "OBJECT_STORE_BYTES": str(150 * 2**20),
            "READY_TIMEOUT_S": str(START_TIMEOUT_S - 30),
            "PRISM_RAY_LOCAL": str(state),
            # pytest's own folders have names too long for a socket.
            "RAY_FOLDER": tempfile.mkdtemp(prefix="prism-ray-"),
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        }
        return cls(state, environment)

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.environment['DASHBOARD_PORT']}"

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.environment['MLFLOW_PORT']}"

    @property
    def head(self) -> str:
        return f"127.0.0.1:{self.environment['RAY_PORT']}"

    def script(self, command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """One command of the script, to its end."""
        return self.run(["bash", str(SCRIPT), command], START_TIMEOUT_S, **changes)

    def run(self, command: list[str], timeout_s: float, **changes: str) -> subprocess.CompletedProcess[str]:
        """A command in the repository's root, with the environment of this cluster."""
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**self.environment, **changes},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def submit(self, *entrypoint: str, wait: bool = True) -> subprocess.CompletedProcess[str]:
        """`ray job submit` of the repository's root, as the script's own text says, to the end of the job."""
        command = [f"{self.environment['BIN']}/ray", "job", "submit", "--address", self.dashboard]
        command += ["--working-dir", "."] + ([] if wait else ["--no-wait"])
        # The second is one that a driver sets too, and Ray refuses to be told a variable twice.
        given = {"PRISM_RAY_GIT_COMMIT": COMMIT, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
        command += ["--runtime-env-json", json.dumps({"env_vars": given}), "--"]
        return self.run([*command, *entrypoint], JOB_TIMEOUT_S, RAY_AUTH_MODE="token")

    def prism_ray(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command of prism-ray that speaks to the cluster's dashboard, to its end, with more of an environment."""
        given = {"RAY_AUTH_MODE": "token", "PRISM_RAY_GIT_COMMIT": COMMIT, **more}
        return self.run([f"{self.environment['BIN']}/prism-ray", *command], JOB_TIMEOUT_S, **given)

    def files_with(self, secret: str, *folders: Path) -> list[Path]:
        """Files that hold a text, in some folders, the cluster's state and all that Ray wrote."""
        everywhere = (*folders, self.state, Path(self.environment["RAY_FOLDER"]))
        files = (path for folder in everywhere for path in folder.rglob("*") if path.is_file())
        return [path for path in files if secret.encode() in path.read_bytes()]

    def group(self, name: str) -> int:
        """Process group of a server."""
        return int((self.state / f"{name}.pid").read_text().split()[0])

    def processes(self) -> list[psutil.Process]:
        """The servers' processes with all that they started."""
        leaders = [psutil.Process(self.group(name)) for name in ("ray", "mlflow")]
        return leaders + [child for leader in leaders for child in leader.children(recursive=True)]

    def destroy(self) -> None:
        """End what is left of the servers, by their groups, and remove what is outside the test's folder."""
        if self.state.is_dir():
            left = [self.group(file.stem) for file in self.state.glob("*.pid")]
            self.script("stop")
            for group in left:
                if live_members(group):
                    os.killpg(group, signal.SIGKILL)
        shutil.rmtree(self.environment["RAY_FOLDER"], ignore_errors=True)


def is_live(process: psutil.Process) -> bool:
    """True where a process runs; one that nobody has waited for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def live_members(group: int) -> list[psutil.Process]:
    """Processes of a process group that run."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and is_live(process):
                members.append(process)
        except ProcessLookupError:
            continue
    return members

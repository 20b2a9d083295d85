"""`prism-ray ui` as a process of its own, as a user has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started_ui(storage: Path, study: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the page of a study that it printed; ended at the end of the block."""
    command = [sys.executable, "-m", "prism_ray", "ui", study, "--storage", str(storage), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("open"):
                break
        else:
            assert process.stderr is not None
            raise AssertionError("".join(lines) + process.stderr.read())
        yield process, lines[-1].split()[1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

"""What this machine lends to this process."""

from __future__ import annotations

import os
import sys


def usable_cpus() -> int:
    """CPUs that this process may run on: of a job of Slurm or a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

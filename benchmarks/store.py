"""How fast genes come out of raw files, out of a store, and into training: each ratio from one run, side by side.

    python benchmarks/store.py              about seven minutes, half of them writing the data
    python benchmarks/store.py --quick      small sizes, two minutes: shows that it works, not how fast it is
    python benchmarks/store.py --json       the same as one JSON document
    python benchmarks/store.py --folder F   keep genome and stores in F, and use them again

Files are warm (in the page cache) and a figure is the median of several goes. Ratios with pyarrow alone read the same
columns of the same files with default settings. A cache is filled in a process of its own each time, as in use, and
again in the same one, where pyarrow has memory that it used before: once ours has such memory, too, once it has not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: what is compared.
        ours, baseline: figures in `unit`; more is better, but for a unit of bytes or seconds.
        ratio: what the goal is about.
        goal: least ratio, or highest where `at_most`.
    """

    what: str
    ours: float
    baseline: float
    unit: str
    ratio: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


def run_part(part: str, folder: Path, quick: bool, one_core: bool) -> list[Row]:
    """Rows of one part, in a process of its own: what one part leaves in memory and threads disturbs no other."""
    command = [sys.executable, "-m", "benchmarks.store_parts", part, str(folder), *(["--quick"] if quick else [])]
    if one_core:
        command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


PARTS = (("data", False), ("training", True), ("arrow", False), ("streaming", False), ("rings", False), ("spans", True))


def main() -> int:
    """Run all parts and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--folder", type=Path, help="keep the data there")
    parser.add_argument("--part", choices=[name for name, _ in PARTS], help="this part alone")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        rows = []
        for part, one_core in PARTS:
            if args.part in (None, part) or part == "data":
                print(f"{part} ...", file=sys.stderr, flush=True)
                rows += run_part(part, folder, args.quick, one_core)
    if args.json:
        print(json.dumps({"machine": machine(), "rows": [{**asdict(row), "met": row.met} for row in rows]}, indent=1))
        return 0
    print(f"\n{machine()}\n")
    print(f"{'':84} {'ours':>12} {'baseline':>12} {'ratio':>8} {'goal':>8}")
    for row in rows:
        goal = f"{'<=' if row.at_most else '>='} {row.goal:g}"
        met = "met" if row.met else "not met"
        print(f"{row.what:84} {row.ours:12,.1f} {row.baseline:12,.1f} {row.ratio:8.2f} {goal:>8} {met}  ({row.unit})")
    return 0


def machine() -> str:
    """The machine in words."""
    memory = psutil.virtual_memory().total / 2**30
    kind = platform.processor() or platform.machine()
    return f"{kind}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


if __name__ == "__main__":
    raise SystemExit(main())

"""The model on the CPU against the published arrangement, and what it costs: training, evaluation, long windows.

    python benchmarks/model.py            the published sizes; about six minutes on two quiet cores
    python benchmarks/model.py --quick    small sizes; under a minute, goals are not checked
    python benchmarks/model.py --only training length    some of its parts
    python benchmarks/model.py --json     the same as one JSON document

Each measurement has a process of its own, so that memory is the measurement's alone; sides of a comparison take
turns and the median counts. Read the ratios, not the seconds. The baseline is in published_arrangement.py; around it
runs the package's own scan, so that what is compared is the arrangement. PyTorch's part of it shares the machine
badly: with other work on the cores the baseline's seconds grow several times more than ours.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import plain_loop
from benchmarks.published_arrangement import published_arrangement
from benchmarks.scan import PUBLISHED, QUICK, Sizes, compare_scan, machine, training_step
from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Prism
from prism_ray.model.backbone import set_checkpointing

PARTS = ("training", "evaluation", "threads", "length", "scan")
"""What is measured, in turn."""

LENGTHS = {False: (2_000, 20_000, 200_000), True: (1_000, 4_000)}
"""Windows of the curve in bp, by whether the run is quick."""


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
        seconds: median of the repeats.
        peak_mib: largest memory of the process less that before the model was built.
    """

    seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Row:
    """A line of the table; `goal` is the least value that will do, None where there is none."""

    what: str
    value: float
    unit: str
    goal: float | None = None
    note: str = ""


def resident_mib() -> float:
    """Largest memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measured(build: Callable[[], Callable[[], object]], repeats: int) -> Measured:
    """Build, run once unmeasured (kernels compile), then take the median of the repeats."""
    before = resident_mib()
    work = build()
    times = []
    for number in range(repeats + 1):
        begun = time.perf_counter()
        work()
        if number:
            times.append(time.perf_counter() - begun)
    return Measured(statistics.median(times), resident_mib() - before)


def evaluation(sizes: Sizes, paths: str, batch_size: int) -> Callable[[], object]:
    """A forward pass of a batch without gradients, ready to run."""
    config = ModelConfig(d_model=sizes.d_model, n_layers=sizes.n_layers, n_states=sizes.n_states)
    model = Prism(config, InputShape(n_signals=3, n_scalars=9), seed=7).eval()
    generator = torch.Generator().manual_seed(7)
    along = (batch_size, sizes.n_positions)
    sequence = torch.nn.functional.one_hot(torch.randint(0, 4, along, generator=generator), 4).float()
    signals = torch.rand(*along, 3, generator=generator)
    scalars = torch.randn(batch_size, 9, generator=generator)

    def work() -> None:
        with torch.inference_mode():
            model(sequence, signals, scalars, paths=paths)

    return work


def measure(name: str, argument: str, sizes: Sizes, repeats: int) -> Measured:
    """The measurement of that name, in this process."""
    one = replace(sizes, batch_size=1)
    if name in ("training", "training, one thread"):
        if name != "training":
            torch.set_num_threads(1)
        change = published_arrangement if argument == "published" else None
        return measured(lambda: training_step(sizes, sizes.n_layers, "auto", change), repeats)
    if name == "checkpointed":
        return measured(
            lambda: training_step(sizes, sizes.n_layers, "auto", lambda model: set_checkpointing(model, True)), repeats
        )
    if name == "evaluation":
        return measured(lambda: evaluation(sizes, argument, sizes.batch_size), repeats)
    if name == "length":
        long = replace(one, n_positions=int(argument), n_states=0)
        step = lambda: training_step(long, long.n_layers, "auto", lambda model: set_checkpointing(model, True))  # noqa: E731
        return measured(step, 1 if long.n_positions > 50_000 else repeats)
    torch.set_num_threads(int(argument))
    return measured(lambda: training_step(one, one.n_layers, "auto"), repeats)


def apart(name: str, argument: str, *, quick: bool, repeats: int = 3) -> Measured:
    """A measurement in a process of its own."""
    order = [sys.executable, __file__, "--measure", name, argument, str(repeats)]
    done = subprocess.run([*order, *(["--quick"] if quick else [])], check=True, capture_output=True, text=True)
    return Measured(**json.loads(done.stdout))


def in_turns(name: str, arguments: tuple[str, str], *, quick: bool, repeats: int = 2) -> list[Measured]:
    """Two sides of a comparison, each measured in two processes that take turns: medians and the larger peaks."""
    taken: dict[str, list[Measured]] = {argument: [] for argument in arguments}
    for argument in (*arguments, *arguments):
        taken[argument].append(apart(name, argument, quick=quick, repeats=repeats))
    return [
        Measured(statistics.median(one.seconds for one in some), max(one.peak_mib for one in some))
        for some in taken.values()
    ]


def scan_rows(sizes: Sizes) -> list[Row]:
    """The scan against the autograd loop, on a part of the copies: the loop takes seconds a copy."""
    plain_loop.register()
    few = replace(sizes, copies=max(2, sizes.copies // 6))
    row = compare_scan(few, plain_loop.NAME, backward=True)
    note = f"{few.copies} copies; {row.loop_s:.2f} s against {row.numba_s:.3f} s, error {row.error:.0e}"
    return [Row("scan, forward + backward, against the autograd loop", row.ratio, "times", 25.0, note)]


def training_rows(sizes: Sizes, *, quick: bool) -> list[Row]:
    """The training step against the published arrangement, with and without checkpointing."""
    theirs, ours = in_turns("training", ("published", "ours"), quick=quick)
    theirs_one, ours_one = in_turns("training, one thread", ("published", "ours"), quick=quick, repeats=1)
    light = apart("checkpointed", "on", quick=quick)
    what = "training step, faster than the published arrangement"
    note = f"{theirs.seconds:.2f} s against {ours.seconds:.2f} s"
    one_note = f"{theirs_one.seconds:.2f} s against {ours_one.seconds:.2f} s"
    memory_note = f"{theirs.peak_mib:.0f} MiB against {ours.peak_mib:.0f} MiB"
    light_note = f"{light.peak_mib:.0f} MiB, {light.seconds:.2f} s"
    less = theirs.peak_mib / light.peak_mib
    return [
        Row(what, theirs.seconds / ours.seconds, "times", 3.0, note),
        Row("the same on one thread", theirs_one.seconds / ours_one.seconds, "times", 3.0, one_note),
        Row("training step, less peak memory", theirs.peak_mib / ours.peak_mib, "times", 2.0, memory_note),
        Row("training step, checkpointed, less peak memory", less, "times", None, light_note),
    ]


def evaluation_rows(sizes: Sizes, *, quick: bool) -> list[Row]:
    """One copy against n + 1, and genes a second."""
    every, plain = in_turns("evaluation", ("both", "plain"), quick=quick)
    note = f"{every.seconds:.2f} s against {plain.seconds:.2f} s, batch {sizes.batch_size}"
    return [
        Row(f"evaluation, one copy against {sizes.n_states + 1}", every.seconds / plain.seconds, "times", 2.5, note),
        Row("prediction, plain", sizes.batch_size / plain.seconds, "genes/s"),
    ]


def length_rows(*, quick: bool) -> list[Row]:
    """Training cost a base by window, batch 1, n = 0, checkpointed."""
    rows = []
    for length in LENGTHS[quick]:
        one = apart("length", str(length), quick=quick, repeats=2)
        note = f"{one.seconds:.2f} s, {one.peak_mib:.0f} MiB"
        rows.append(Row(f"cost a base at {length} bp", 1e6 * one.seconds / length, "us/bp", None, note))
    return rows


def thread_rows(*, quick: bool) -> list[Row]:
    """A step of one gene (n + 1 copies) on one thread and on two."""
    one, two = in_turns("threads", ("1", "2"), quick=quick)
    note = f"{one.seconds:.2f} s against {two.seconds:.2f} s"
    return [Row("batch 1, two threads against one", one.seconds / two.seconds, "times", None, note)]


def text_of(row: Row, *, checked: bool) -> str:
    """One line of the table."""
    verdict = ""
    if row.goal is not None and checked:
        verdict = f"goal {row.goal:g}: {'met' if row.value >= row.goal else 'missed'}"
    return f"{row.what:54}{row.value:10.2f} {row.unit:8}{verdict:18}{row.note}"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; no goal is checked")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--measure", nargs=3, metavar=("NAME", "ARGUMENT", "REPEATS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else PUBLISHED
    if options.measure:
        name, argument, repeats = options.measure
        print(json.dumps(asdict(measure(name, argument, sizes, int(repeats)))))
        return 0
    about, rows = machine(), []
    if not options.json:
        print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    parts: dict[str, Callable[[], list[Row]]] = {
        "training": lambda: training_rows(sizes, quick=options.quick),
        "evaluation": lambda: evaluation_rows(sizes, quick=options.quick),
        "threads": lambda: thread_rows(quick=options.quick),
        "length": lambda: length_rows(quick=options.quick),
        "scan": lambda: scan_rows(sizes),
    }
    for part in options.only or PARTS:
        for row in parts[part]():
            rows.append(row)
            if not options.json:
                print(text_of(row, checked=not options.quick), flush=True)
    if options.json:
        listed = [asdict(row) for row in rows]
        print(json.dumps({"machine": about, "sizes": asdict(sizes), "rows": listed}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

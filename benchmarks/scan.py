"""How much faster the compiled CPU scan is than PyTorch: the operation, and a whole training step.

Two baselines under autograd: the plain loop that indexes each position (plain_loop.py), which is what the goal is
about, and the package's reference kernel, which unbinds its inputs first.

    python benchmarks/scan.py            the published sizes; seven minutes, most of them the plain loop's
    python benchmarks/scan.py --quick    small sizes; under a minute
    python benchmarks/scan.py --json     the same as one JSON document

Both run in the same process: read the ratios, not the seconds. The loop makes thousands of small steps, over which
several threads gain little on a quiet machine and lose much on a busy one, so both are timed with all threads and
with one. The ratio with one thread is the hardest: a loop alone on a core keeps its state in the cache.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numba
import psutil
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import plain_loop
from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Prism, parameter_groups, prism_loss, selective_scan, set_kernel

GOAL = 20.0
"""Ratio of training steps to reach."""

# Under autograd the loop keeps decay and state of every position: two tensors of (copies, E, N) a position,
# direction and layer, and as much again for what autograd makes of them on the way back.
_LOOP_BYTES_A_STATE = 2 * 2 * 4


@dataclass(frozen=True)
class Sizes:
    """Sizes of a benchmark: the scan's, then the training step's."""

    copies: int
    n_positions: int
    n_channels: int
    n_state: int
    batch_size: int
    d_model: int
    n_layers: int
    n_states: int


@dataclass
class Row:
    """One comparison.

    Attributes:
        what: what was timed.
        loop_s: the loop with all threads.
        loop_one_s: the loop with one thread.
        numba_s: the compiled kernels with all threads.
        numba_one_s: the compiled kernels with one thread.
        error: largest difference over the largest value; None where not compared.
        note: sizes.
    """

    what: str
    loop_s: float
    loop_one_s: float
    numba_s: float
    numba_one_s: float
    error: float | None
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster the kernels are, both with all threads."""
        return self.loop_s / self.numba_s

    @property
    def ratio_one(self) -> float:
        """How many times faster the kernels are, both with one thread."""
        return self.loop_one_s / self.numba_one_s


PUBLISHED = Sizes(
    copies=24, n_positions=2000, n_channels=256, n_state=16, batch_size=8, d_model=128, n_layers=4, n_states=2
)
QUICK = Sizes(copies=6, n_positions=500, n_channels=64, n_state=16, batch_size=2, d_model=32, n_layers=2, n_states=2)


def seconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Shortest of several runs, with all threads and with one."""
    n_threads = torch.get_num_threads()
    shortest = []
    for count in (n_threads, 1):
        torch.set_num_threads(count)
        times = []
        for _ in range(repeats):
            begun = time.perf_counter()
            work()
            times.append(time.perf_counter() - begun)
        shortest.append(min(times))
    torch.set_num_threads(n_threads)
    return shortest[0], shortest[1]


def scan_inputs(sizes: Sizes) -> list[Tensor]:
    """u, delta, A, B, C, D, delta_bias with step sizes as at initialisation."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    along = (sizes.copies, sizes.n_positions)
    rates = -torch.arange(1.0, sizes.n_state + 1).repeat(sizes.n_channels, 1)
    return [
        normal(*along, sizes.n_channels),
        normal(*along, sizes.n_channels),
        rates,
        normal(*along, sizes.n_state),
        normal(*along, sizes.n_state),
        normal(sizes.n_channels),
        normal(sizes.n_channels) - 4.0,
    ]


def run_scan(inputs: list[Tensor], kernel: str) -> list[Tensor]:
    """Output of the scan, then the gradients of its inputs where they require any."""
    *tensors, bias = inputs
    y = selective_scan(*tensors, delta_bias=bias, kernel=kernel)
    if not y.requires_grad:
        return [y]
    return [y.detach(), *torch.autograd.grad(y, inputs, torch.ones_like(y))]


def largest_error(got: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of any tensor over its largest value."""
    pairs = zip(got, expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def compare_scan(sizes: Sizes, baseline: str, *, backward: bool) -> Row:
    """The operation by a baseline and by numba, with its gradients if asked."""
    inputs = [tensor.requires_grad_(backward) for tensor in scan_inputs(sizes)]
    results: dict[str, list[Tensor]] = {}

    def work(kernel: str) -> None:
        results[kernel] = run_scan(inputs, kernel)

    work("numba")  # compiles
    fast = seconds(lambda: work("numba"), 5)
    loop = seconds(lambda: work(baseline), 1)
    what = f"scan, {'forward + backward' if backward else 'forward'}"
    return Row(f"{what}, {baseline}", *loop, *fast, largest_error(results["numba"], results[baseline]))


def training_step(
    sizes: Sizes, n_layers: int, kernel: str, change: Callable[[Prism], object] | None = None
) -> Callable[[], object]:
    """One whole optimiser step, ready to run: forward of n + 1 copies, losses, backward, clip, AdamW.

    Args:
        sizes: sizes of model and batch.
        n_layers: layers, instead of those of `sizes`.
        kernel: what runs the blocks' operations.
        change: done to the model before the first step.
    """
    config = ModelConfig(d_model=sizes.d_model, n_layers=n_layers, n_states=sizes.n_states, d_state=sizes.n_state)
    model = Prism(config, InputShape(n_signals=3, n_scalars=9), seed=7).train()
    set_kernel(model, kernel)
    if change is not None:
        change(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, 1.0e-6), lr=5.0e-4, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(7)
    along = (sizes.batch_size, sizes.n_positions)
    bases = torch.randint(0, 4, along, generator=generator)
    sequence = torch.nn.functional.one_hot(bases, 4).float()
    signals = torch.rand(*along, 3, generator=generator)
    scalars = torch.randn(sizes.batch_size, 9, generator=generator)
    target = torch.rand(sizes.batch_size, generator=generator)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(prism_loss(model(sequence, signals, scalars), target, alpha=1.0, beta=1.0).total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def compare_training(sizes: Sizes, baseline: str) -> Row:
    """A training step with either scan; with fewer layers for both where memory cannot hold the loop's graph."""
    copies = sizes.batch_size * (sizes.n_states + 1)
    layer_bytes = 2 * copies * sizes.n_positions * 2 * sizes.d_model * sizes.n_state * _LOOP_BYTES_A_STATE
    fitting = int(0.5 * psutil.virtual_memory().available / layer_bytes)
    n_layers = max(1, min(sizes.n_layers, fitting))
    note = f"{copies} copies of {sizes.n_positions} bp, d_model {sizes.d_model}, {n_layers} layers"
    if n_layers < sizes.n_layers:
        note += f" instead of {sizes.n_layers}, in both: the loop's graph needs {layer_bytes / 2**30:.1f} GiB a layer"
    step = training_step(sizes, n_layers, "numba")
    step()
    fast = seconds(step, 3)
    loop = seconds(training_step(sizes, n_layers, baseline), 1)
    return Row(f"training step, {baseline}", *loop, *fast, None, note)


def machine() -> dict[str, str | int]:
    """What it ran on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": psutil.cpu_count(logical=False) or 0,
        "threads": torch.get_num_threads(),
        "load_before": f"{psutil.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
    }


def text_of(row: Row) -> str:
    """One line of the table."""
    error = f"{row.error:.1e}" if row.error is not None else ""
    shared = f"{row.loop_s:10.3f}{row.numba_s:10.4f}{row.ratio:8.1f}"
    alone = f"{row.loop_one_s:12.3f}{row.numba_one_s:10.4f}{row.ratio_one:8.1f}"
    return f"{row.what:38}{shared}{alone}{error:>10}  {row.note}"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; no goal is checked")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else PUBLISHED
    plain_loop.register()
    about = machine()
    if not options.json:
        print(", ".join(f"{name} {value}" for name, value in about.items()))
        print(
            f"scan: {sizes.copies} copies of {sizes.n_positions} bp, {sizes.n_channels} channels, state {sizes.n_state}"
        )
        print(f"{'':38}{'all threads':>28}{'one thread':>30}")
        print(
            f"{'':38}{'loop s':>10}{'numba s':>10}{'ratio':>8}{'loop s':>12}{'numba s':>10}{'ratio':>8}{'error':>10}",
            flush=True,
        )
    rows = []
    measures = [
        measure
        for baseline in ("reference", plain_loop.NAME)
        for measure in (
            partial(compare_scan, sizes, baseline, backward=False),
            partial(compare_scan, sizes, baseline, backward=True),
            partial(compare_training, sizes, baseline),
        )
    ]
    for measure in measures:
        rows.append(measure())
        if not options.json:
            print(text_of(rows[-1]), flush=True)
    if options.json:
        listed = [{**asdict(row), "ratio": row.ratio, "ratio_one": row.ratio_one} for row in rows]
        print(json.dumps({"machine": about, "sizes": asdict(sizes), "rows": listed, "goal": GOAL}, indent=2))
    elif not options.quick:
        training = rows[-1]
        for threads, ratio in (("all threads", training.ratio), ("one thread", training.ratio_one)):
            verdict = "reached" if ratio >= GOAL else "missed"
            print(f"goal, training {GOAL:.0f} times faster than the plain loop, {threads}: {ratio:.1f}, {verdict}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

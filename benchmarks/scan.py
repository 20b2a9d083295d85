"""How much faster the compiled CPU scan is than the plain PyTorch loop: the operation, and a whole training step.

    python benchmarks/scan.py            the published sizes; several minutes, most of them the loop's
    python benchmarks/scan.py --quick    small sizes; under a minute
    python benchmarks/scan.py --json     the same as one JSON document

Both run in the same process on the same threads: read the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numba
import psutil
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

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
    """One comparison; `error` is the largest difference over the largest value, None where not compared."""

    what: str
    loop_s: float
    numba_s: float
    ratio: float
    error: float | None
    note: str = ""


PUBLISHED = Sizes(
    copies=24, n_positions=2000, n_channels=256, n_state=16, batch_size=8, d_model=128, n_layers=4, n_states=2
)
QUICK = Sizes(copies=6, n_positions=500, n_channels=64, n_state=16, batch_size=2, d_model=32, n_layers=2, n_states=2)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Shortest of several runs."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


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


def compare_scan(sizes: Sizes, what: str) -> Row:
    """The operation by loop and by numba; with gradients where `what` says backward."""
    inputs = [tensor.requires_grad_("backward" in what) for tensor in scan_inputs(sizes)]
    results: dict[str, list[Tensor]] = {}

    def work(kernel: str) -> None:
        results[kernel] = run_scan(inputs, kernel)

    work("numba")  # compiles
    numba_s = seconds(lambda: work("numba"), 5)
    loop_s = seconds(lambda: work("reference"), 1)
    error = largest_error(results["numba"], results["reference"])
    return Row(what, loop_s, numba_s, loop_s / numba_s, error)


def training_step(sizes: Sizes, n_layers: int, kernel: str) -> Callable[[], object]:
    """One whole optimiser step, ready to run: forward of n + 1 copies, losses, backward, clip, AdamW."""
    config = ModelConfig(d_model=sizes.d_model, n_layers=n_layers, n_states=sizes.n_states, d_state=sizes.n_state)
    model = Prism(config, InputShape(n_signals=3, n_scalars=9), seed=7).train()
    set_kernel(model, kernel)
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


def compare_training(sizes: Sizes) -> Row:
    """A training step with either scan; with fewer layers for both where memory cannot hold the loop's graph."""
    copies = sizes.batch_size * (sizes.n_states + 1)
    layer_bytes = 2 * copies * sizes.n_positions * 2 * sizes.d_model * sizes.n_state * _LOOP_BYTES_A_STATE
    fitting = int(0.5 * psutil.virtual_memory().available / layer_bytes)
    n_layers = max(1, min(sizes.n_layers, fitting))
    note = f"{copies} copies of {sizes.n_positions} bp, d_model {sizes.d_model}, {n_layers} layers"
    if n_layers < sizes.n_layers:
        note += f" instead of {sizes.n_layers}, in both: the loop's graph needs {layer_bytes / 2**30:.1f} GiB a layer"
    fast = training_step(sizes, n_layers, "numba")
    fast()
    numba_s = seconds(fast, 3)
    loop_s = seconds(training_step(sizes, n_layers, "reference"), 1)
    return Row("training step", loop_s, numba_s, loop_s / numba_s, None, note)


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
    return f"{row.what:26}{row.loop_s:10.3f}{row.numba_s:10.4f}{row.ratio:8.1f}{error:>10}  {row.note}"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print it; 1 where the published training step misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; no goal is checked")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else PUBLISHED
    about = machine()
    if not options.json:
        print(", ".join(f"{name} {value}" for name, value in about.items()))
        print(
            f"scan: {sizes.copies} copies of {sizes.n_positions} bp, {sizes.n_channels} channels, state {sizes.n_state}"
        )
        print(f"{'':26}{'loop s':>10}{'numba s':>10}{'ratio':>8}{'error':>10}", flush=True)
    rows = []
    for name in ("scan, forward", "scan, forward + backward", "training step"):
        rows.append(compare_training(sizes) if name == "training step" else compare_scan(sizes, name))
        if not options.json:
            print(text_of(rows[-1]), flush=True)
    reached = rows[-1].ratio >= GOAL
    if options.json:
        document = {"machine": about, "sizes": asdict(sizes), "rows": [asdict(row) for row in rows], "goal": GOAL}
        print(json.dumps(document, indent=2))
    elif not options.quick:
        print(f"goal: training {GOAL:.0f} times faster than the loop: {'reached' if reached else 'missed'}")
    return 0 if reached or options.quick else 1


if __name__ == "__main__":
    raise SystemExit(main())

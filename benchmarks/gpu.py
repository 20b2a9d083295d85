"""How fast the model is on one NVIDIA GPU, against the published arrangement around the same or a rival's scan.

    python benchmarks/gpu.py             under eight minutes; needs neither Ray nor a network
    python benchmarks/gpu.py --json      one JSON document

Four parts: training (batch 8, its backbone as CUDA graphs, as a run does it) and evaluation at 2 kb, n = 2, bfloat16,
against the published arrangement (n + 1 copies, projections twice, mamba-ssm's fused operation where it can be
imported, else our Triton kernel); kernel against kernel in the inner part of a block; memory against the length of the
window. Without a GPU it says so and exits with 2.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.published_arrangement import PublishedBlock, published_arrangement
from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Prism, available_kernels, parameter_groups, prism_loss
from prism_ray.model.backbone import Direction
from prism_ray.model.graphs import graph_backbone
from prism_ray.model.scan import DirectionWeights, bidirectional_inner

TRAINING_GOAL, EVALUATION_GOAL, KERNEL_GOAL, LINEAR_GOAL = 2.0, 5.0, 1.0, 1.1
BATCH, POSITIONS, STATES = 8, 2000, 2
EVALUATION_BATCH = 256
WINDOWS = (2_000, 20_000, 200_000, 1_000_000)


def milliseconds(work: Callable[[], object], repeats: int = 20) -> float:
    """Median time of a piece of work on the GPU, after warming up."""
    for _ in range(5):
        work()
    times = []
    for _ in range(repeats):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        times.append(begun.elapsed_time(ended))
    return statistics.median(times)


def fused_mixer(hidden: Tensor, block: PublishedBlock, direction: Direction) -> Tensor:
    """One whole mixer by mamba-ssm's fused operation: what its Mamba module runs where causal-conv1d is installed."""
    from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn

    n_genes, n_positions, width = hidden.shape
    # Channels first out of the product, as the operation wants them: nothing is transposed in memory.
    xz = block.in_proj.weight @ hidden.reshape(-1, width).t()  # (2 E, B L)
    xz = xz.view(-1, n_genes, n_positions).transpose(0, 1)
    mixed: Tensor = mamba_inner_fn(
        xz,
        direction.conv.weight,
        direction.conv.bias,
        direction.x_proj.weight,
        direction.dt_proj.weight,
        block.out_proj.weight,
        None,
        -torch.exp(direction.A_log),
        D=direction.D,
        delta_bias=direction.dt_proj.bias,
        delta_softplus=True,
    )
    return mixed


def make_model(rival: str | None) -> Prism:
    """The published size on the GPU; in the published arrangement, around a rival's kernels or ours, where named."""
    config = ModelConfig(n_states=STATES)
    model = Prism(config, InputShape(n_signals=3, n_scalars=9), seed=7).cuda()
    if rival is None:
        return model
    return published_arrangement(model, mixer=fused_mixer if rival == "mamba-ssm" else None)


def make_batch(n_genes: int) -> list[Tensor]:
    """Sequence, signals, scalars and target."""
    generator = torch.Generator("cuda").manual_seed(7)
    bases = torch.randint(0, 4, (n_genes, POSITIONS), generator=generator, device="cuda")
    rest = [(n_genes, POSITIONS, 3), (n_genes, 9), (n_genes,)]
    return [
        torch.nn.functional.one_hot(bases, 4).float(),
        *(torch.rand(*shape, generator=generator, device="cuda") for shape in rest),
    ]


def training_step(model: Prism, *, graphs: bool = False) -> Callable[[], object]:
    """One optimiser step in bfloat16; as a run on one GPU does it, with the backbone as CUDA graphs."""
    model.train()
    if graphs:
        graph_backbone(model.backbone, (BATCH * (STATES + 1), POSITIONS, model.config.d_model), torch.bfloat16)
    optimizer = torch.optim.AdamW(parameter_groups(model, 1.0e-6), lr=5.0e-4, betas=(0.9, 0.95))
    *inputs, target = make_batch(BATCH)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            output = model(*inputs)
        torch.autograd.backward(prism_loss(output, target, alpha=1.0, beta=1.0).total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def evaluation(model: Prism, paths: Any) -> Callable[[], object]:
    """Predictions of one batch in bfloat16: of all copies as published, or of the plain path alone."""
    model.eval()
    inputs = make_batch(EVALUATION_BATCH)[:-1]

    def predict() -> None:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            model(*inputs, paths=paths)

    return predict


def block_inputs(n_genes: int, n_positions: int, n_channels: int = 256, n_state: int = 16, rank: int = 8) -> Any:
    """x, z in bfloat16 and the weights of both directions."""
    generator = torch.Generator("cuda").manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device="cuda")

    def direction() -> DirectionWeights:
        rates = -torch.arange(1.0, n_state + 1, device="cuda").repeat(n_channels, 1)
        mix = 0.06 * normal(rank + 2 * n_state, n_channels)
        bias = normal(n_channels) - 4.0
        tensors = (0.5 * normal(n_channels, 4), normal(n_channels), mix, normal(n_channels, rank), bias, rates)
        return DirectionWeights(*(tensor.requires_grad_() for tensor in (*tensors, normal(n_channels))))

    x, z = (normal(n_genes, n_positions, n_channels).bfloat16().requires_grad_() for _ in range(2))
    return x, z, direction(), direction()


def inner_step(inputs: Any, kernel: str) -> Callable[[], object]:
    """Forward and backward of a block's inner part."""
    x, z, left, right = inputs
    leaves = [x, z, *left, *right]

    def step() -> None:
        y = bidirectional_inner(x, z, left, right, kernel=kernel)
        torch.autograd.grad(y, leaves, torch.ones_like(y))

    return step


def compare_model(rival: str) -> list[dict[str, Any]]:
    """Genes a second of training and evaluation, ours against the published arrangement."""
    rows = []
    for what, n_genes, goal, make in (
        ("training", BATCH, TRAINING_GOAL, lambda m, ours: training_step(m, graphs=ours)),
        ("evaluation", EVALUATION_BATCH, EVALUATION_GOAL, lambda m, ours: evaluation(m, "plain" if ours else "both")),
    ):
        published = 1e3 * n_genes / milliseconds(make(make_model(rival), False))
        ours = 1e3 * n_genes / milliseconds(make(make_model(None), True))
        note = f"genes/s at 2 kb, n = 2, bfloat16, batch {n_genes}; published arrangement around {rival}"
        rows.append(row(what, published, ours, ours / published, goal, note))
    return rows


def compare_kernels(names: list[str]) -> list[dict[str, Any]]:
    """Triton against mamba-ssm in the inner part of a block, copies of one training batch."""
    inputs = block_inputs(BATCH * (STATES + 1), POSITIONS)
    times = {name: milliseconds(inner_step(inputs, name)) for name in names}
    note = "ms of forward and backward, 24 copies of 2 kb, 256 channels, bfloat16"
    if "mamba-ssm" not in times:
        return [row("inner part, triton alone", None, times["triton"], None, None, f"{note}; no mamba-ssm here")]
    ratio = times["mamba-ssm"] / times["triton"]
    return [row("inner part, triton against mamba-ssm", times["mamba-ssm"], times["triton"], ratio, KERNEL_GOAL, note)]


def memory_curve(kernel: str) -> list[dict[str, Any]]:
    """Peak memory and time a base of one gene's inner part by the length of the window."""
    rows: list[dict[str, Any]] = []
    before = None
    for n_positions in WINDOWS:
        torch.cuda.empty_cache()
        step = inner_step(block_inputs(1, n_positions), kernel)
        torch.cuda.reset_peak_memory_stats()
        time = milliseconds(step, 3)
        bytes_a_base = torch.cuda.max_memory_allocated() / n_positions
        ratio = None if before is None else bytes_a_base / before
        note = f"bytes a base; {1e6 * time / n_positions:.1f} ns a base; {kernel}, against the window before"
        entry = row(f"memory, {n_positions:,} bp", before, bytes_a_base, ratio, LINEAR_GOAL, note)
        entry["met"] = None if ratio is None else ratio <= LINEAR_GOAL
        rows.append(entry)
        before = bytes_a_base
    return rows


def row(what: str, baseline: Any, ours: float, ratio: Any, goal: Any, note: str) -> dict[str, Any]:
    """One line of the result; met is None where there is nothing to compare with."""
    met = None if ratio is None or goal is None else ratio >= goal
    return {"what": what, "baseline": baseline, "ours": ours, "ratio": ratio, "goal": goal, "met": met, "note": note}


def text_of(entry: dict[str, Any]) -> str:
    """One line of the table."""
    numbers = "".join(
        f"{'-' if entry[name] is None else format(entry[name], '.2f'):>14}"
        for name in ("baseline", "ours", "ratio", "goal")
    )
    verdict = {True: "met", False: "MISSED", None: ""}[entry["met"]]
    return f"{entry['what']:40}{numbers}  {verdict:7}{entry['note']}"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py: no NVIDIA GPU here; benchmarks/model.py measures the CPU", file=sys.stderr)
        return 2
    names = [kernel.name for kernel in available_kernels("cuda", torch.bfloat16) if kernel.name != "reference"]
    if "triton" not in names:
        print("benchmarks/gpu.py: the Triton kernels do not run here; see prism-ray doctor", file=sys.stderr)
        return 2
    about = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}
    rows: list[dict[str, Any]] = []
    if not options.json:
        print(", ".join(f"{name} {value}" for name, value in about.items()), "; kernels", *names)
        print(f"{'':40}" + "".join(f"{name:>14}" for name in ("baseline", "ours", "ratio", "goal")), flush=True)
    rival = "mamba-ssm" if "mamba-ssm" in names else "triton"
    for part in (lambda: compare_model(rival), lambda: compare_kernels(names), lambda: memory_curve("triton")):
        for entry in part():
            rows.append(entry)
            if not options.json:
                print(text_of(entry), flush=True)
    if options.json:
        print(json.dumps({"machine": about, "kernels": names, "rows": rows}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""AdamW without its class: the class's bits and its state dicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.training.adamw import AdamW
from tests.store.factory import Recipe, make_store
from tests.test_architecture import said_by

STEPS = 6


def groups_of(seed: int, n_decayed: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (5,), (), (2, 1, 3), (1,)]
    made = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    return [
        {"params": made[:n_decayed], "weight_decay": 0.1},
        {"params": made[n_decayed:], "weight_decay": 0.0},
    ]


def parameters_of(optimizer: Any) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def give_gradients(parameters: list[torch.Tensor], seed: int, step: int, missing: int | None) -> None:
    generator = torch.Generator().manual_seed(1000 * seed + step)
    for number, parameter in enumerate(parameters):
        drawn = torch.randn(parameter.shape, generator=generator) * 10.0 ** (number - 2)
        parameter.grad = None if number == missing else drawn


def assert_same(ours: Any, theirs: Any) -> None:
    for one, other in zip(parameters_of(ours), parameters_of(theirs), strict=True):
        assert torch.equal(one, other)
    told, expected = ours.state_dict(), theirs.state_dict()
    assert told["param_groups"] == expected["param_groups"]
    assert told["state"].keys() == expected["state"].keys()
    for number, state in expected["state"].items():
        assert told["state"][number].keys() == state.keys()
        assert all(torch.equal(told["state"][number][name], value) for name, value in state.items())


@given(
    seed=st.integers(0, 2**16),
    n_decayed=st.integers(1, 4),
    rates=st.lists(st.floats(1e-5, 1e-1), min_size=STEPS, max_size=STEPS),
    missing=st.none() | st.integers(0, 4),
    swapped=st.none() | st.integers(1, STEPS - 1),
)
@settings(max_examples=50)
def test_it_is_pytorchs_to_the_bit_and_each_goes_on_from_the_others_state(
    seed: int, n_decayed: int, rates: list[float], missing: int | None, swapped: int | None
) -> None:
    ours = AdamW(groups_of(seed, n_decayed), lr=0.5, betas=(0.9, 0.95))
    theirs = torch.optim.AdamW(groups_of(seed, n_decayed), lr=0.5, betas=(0.9, 0.95))
    for step, rate in enumerate(rates):
        if step == swapped:
            told, expected = ours.state_dict(), theirs.state_dict()
            fresh = groups_of(seed + 1, n_decayed), groups_of(seed + 1, n_decayed)
            for groups in fresh:
                for one, other in zip(groups, ours.param_groups, strict=True):
                    for new, old in zip(one["params"], other["params"], strict=True):
                        new.data.copy_(old.data)
            ours = AdamW(fresh[0], lr=0.1, betas=(0.5, 0.5))
            theirs = torch.optim.AdamW(fresh[1], lr=0.1, betas=(0.5, 0.5))
            ours.load_state_dict(expected)
            theirs.load_state_dict(told)
        for optimizer in (ours, theirs):
            give_gradients(parameters_of(optimizer), seed, step, missing)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        assert_same(ours, theirs)
    ours.zero_grad()
    assert all(parameter.grad is None for parameter in parameters_of(ours))


def test_what_goes_on_from_a_state_leaves_it_as_it_is() -> None:
    first = AdamW(groups_of(3, 2), lr=0.1, betas=(0.9, 0.95))
    give_gradients(parameters_of(first), 3, 0, None)
    first.step()
    kept = first.state_dict()
    before = {number: {name: value.clone() for name, value in state.items()} for number, state in kept["state"].items()}
    second = AdamW(groups_of(3, 2), lr=0.1, betas=(0.9, 0.95))
    second.load_state_dict(kept)
    give_gradients(parameters_of(second), 3, 1, None)
    second.step()
    for number, state in before.items():
        assert all(torch.equal(kept["state"][number][name], value) for name, value in state.items())


def test_a_state_of_other_groups_is_refused() -> None:
    saved = AdamW(groups_of(1, 2), lr=0.1, betas=(0.9, 0.95)).state_dict()
    saved["param_groups"].pop()
    with pytest.raises(ValueError, match="shorter"):
        AdamW(groups_of(1, 2), lr=0.1, betas=(0.9, 0.95)).load_state_dict(saved)


def test_a_run_loads_no_compiler(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=200))
    said_by(
        "import sys\n"
        "import prism_ray.store\n"
        "from prism_ray.config import RunConfig\n"
        "from prism_ray.training.loop import train\n"
        f"store = prism_ray.store.open({str(tmp_path / 'store')!r})\n"
        "genes = store.load(200, ('h3k27ac',), 'K562')\n"
        "config = RunConfig.model_validate({\n"
        "    'data': {'fold': 'fold_1', 'window_bp': 200, 'signals': ('h3k27ac',)},\n"
        "    'model': {'d_model': 8, 'n_layers': 1, 'd_state': 4},\n"
        "    'training': {'n_steps': 2, 'batch_size': 4, 'precision': 'float32'},\n"
        "})\n"
        "train(config, genes, store.folds.split('fold_1', genes.chrom))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )

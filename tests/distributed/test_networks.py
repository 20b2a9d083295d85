"""What a study says of its networks before its first trial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import prism_ray.store
from prism_ray.config import RunConfig
from prism_ray.distributed.networks import network_lines
from prism_ray.model import InputShape, Prism, count_parameters
from prism_ray.model.backbones import BACKBONES
from prism_ray.study.spec import Study
from prism_ray.workload import plain_multiply_adds

MakeStudy = Callable[..., Study]


def n_parameters(config: RunConfig, store: prism_ray.store.Store) -> int:
    return count_parameters(Prism(config.model, InputShape(3, len(store.scalar_names))))


def test_every_backbone_with_its_parameters_and_cost(make_study: MakeStudy, simulated_store: Path) -> None:
    store = prism_ray.store.open(simulated_store)
    arms = {name: {"patch": {"model.backbone": name}, "reason": "a rival"} for name in BACKBONES}
    arms |= {"n0": {"patch": {"loss.alpha": 0.5}, "reason": "the same network"}}
    study = make_study(
        baseline={
            "data.window_bp": 256,
            "model.n_states": 2,
            "training.n_steps": 6,
            "training.batch_size": 8,
            "loss.alpha": 1.0,
        },
        baseline_arm="caduceus",
        changes=["model.backbone", "loss.alpha"],
        arms=arms,
        curve=None,
    )
    lines = network_lines(study, store)
    assert len(lines) == 3
    for line, name in zip(lines, ("caduceus, n0", "cnn", "mamba"), strict=True):
        config = next(arm.config for arm in study.arms if arm.name == name.split(",")[0])
        plain = plain_multiply_adds(config.model, 256)
        assert line == (
            f"{name:12}  {config.model.backbone}, {n_parameters(config, store):,} parameters, 3 copies of 256 bp, "
            f"{plain / 1e9:.3g} G multiply-adds a gene, {9 * plain / 1e9:.3g} G in training"
        )


def test_one_copy_without_states_and_many_arms_shortened(make_study: MakeStudy, simulated_store: Path) -> None:
    store = prism_ray.store.open(simulated_store)
    arms = {"n0": {"patch": {}, "reason": "plain"}}
    arms |= {f"a{k}": {"patch": {"optimizer.learning_rate": k * 1.0e-4}, "reason": "a rate"} for k in range(1, 7)}
    study = make_study(changes=["optimizer.learning_rate"], arms=arms, curve=None)
    (line,) = network_lines(study, store)
    assert line.startswith("a1, a2, a3, a4, 3 more  caduceus, ")
    assert " 1 copy of 256 bp" in line

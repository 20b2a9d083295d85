"""What the networks of a study are and cost, said before the first trial."""

from __future__ import annotations

from prism_ray.config import RunConfig
from prism_ray.distributed.projections import model_parameters
from prism_ray.store import Store
from prism_ray.study.spec import Study
from prism_ray.workload import plain_multiply_adds, training_multiply_adds


def network_lines(study: Study, store: Store) -> list[str]:
    """One line a network of the study, arms that share one together; of a search, its baseline.

    A line has the arms' names, backbone, parameters, copies of the input in training, window, and multiply-adds of the
    backbone for a gene: in a prediction of the plain path, and in a training step.
    """
    arms = {arm.name: arm.config for arm in study.arms} or {"baseline": study.baseline}
    sharing: dict[str, list[str]] = {}
    for name, config in arms.items():
        sharing.setdefault(_described(config, store), []).append(name)
    names = {line: _shortened(names) for line, names in sharing.items()}
    width = max(map(len, names.values()))
    return [f"{names[line]:{width}}  {line}" for line in sharing]


def _described(config: RunConfig, store: Store) -> str:
    data, model = config.data, config.model
    copies = "1 copy" if model.n_states == 0 else f"{model.n_states + 1} copies"
    if model.states != "learned":
        copies += f" ({model.states} states)"
    return (
        f"{model.backbone}, {model_parameters(store, config):,} parameters, {copies} of {data.window_bp:,} bp, "
        f"{plain_multiply_adds(model, data.window_bp) / 1e9:.3g} G multiply-adds a gene, "
        f"{training_multiply_adds(model, data.window_bp) / 1e9:.3g} G in training"
    )


def _shortened(names: list[str], most: int = 4) -> str:
    """Names joined; of many the first ones and how many more there are."""
    left = f", {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + left

"""AdamW by PyTorch's functional API: its update, and the state of its optimiser class, without that class.

`torch.optim.AdamW` loads PyTorch's compiler when it is made, which costs every process that trains a second and 74 MiB
and is not used here; no setting keeps it from that. State dicts are those of `torch.optim.AdamW`, in both directions.

Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.adamw.adamw.html
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

_DEFAULTS: dict[str, Any] = {
    "eps": 1.0e-8,
    "amsgrad": False,
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
    "decoupled_weight_decay": True,
}
"""What a group of `torch.optim.AdamW` says beside the rates; kept so that the class reads our state dicts."""


class AdamW:
    """AdamW over groups of parameters.

    Attributes:
        param_groups: of each group its parameters (`params`), learning rate (`lr`, which may be set between steps),
            `betas` and `weight_decay`.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        """Take groups of `params` and their `weight_decay`; all learn at the same rate."""
        self.param_groups: list[dict[str, Any]] = [{"lr": lr, "betas": betas, **_DEFAULTS, **group} for group in groups]
        self._state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self._state_of(parameter) for parameter in trained]
            adamw(
                trained,
                [parameter.grad for parameter in trained],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                foreach=group["foreach"],
                fused=group["fused"],
                amsgrad=group["amsgrad"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=group["maximize"],
            )

    def state_dict(self) -> dict[str, Any]:
        """Settings and state, as `torch.optim.AdamW` gives them: parameters by their number in the order of groups."""
        numbers = {parameter: number for number, parameter in enumerate(self._parameters())}
        groups = [{**group, "params": [numbers[one] for one in group["params"]]} for group in self.param_groups]
        return {
            "state": {number: self._state[one] for one, number in numbers.items() if one in self._state},
            "param_groups": groups,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a state dict of an optimiser of equal groups."""
        parameters = self._parameters()
        for group, other in zip(self.param_groups, saved["param_groups"], strict=True):
            group.update({name: value for name, value in other.items() if name != "params"})
        self._state = {
            parameters[number]: {
                # The number of steps stays on the CPU, where it is read.
                name: value.clone() if name == "step" else value.to(parameters[number], copy=True)
                for name, value in state.items()
            }
            for number, state in saved["state"].items()
        }

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter not in self._state:
            self._state[parameter] = {
                "step": torch.tensor(0.0, dtype=torch.float32),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        return self._state[parameter]

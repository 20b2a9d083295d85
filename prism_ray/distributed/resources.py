"""What one trial takes of a cluster. Loads neither Ray nor PyTorch, for plans."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prism_ray.errors import FaultList, InputError

if TYPE_CHECKING:
    import torch

    from prism_ray.training.reporter import Placement


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes; decides how fast it is and nothing else.

    Attributes:
        n_workers: processes that share each batch.
        cpus_per_worker, gpus_per_worker: what each of them takes.
        checkpoint_every_steps: steps between checkpoints besides those at validations; 0 for none.
        micro_batch: genes that a worker computes at a time, of its share of each batch; 0 for all of it.
        checkpoint_activations: compute hidden states again in the backward pass instead of keeping them.
    """

    n_workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0.0
    checkpoint_every_steps: int = 0
    micro_batch: int = 0
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        faults = FaultList()
        for name in ("n_workers", "cpus_per_worker"):
            if getattr(self, name) < 1:
                faults.add(name, f"{getattr(self, name)} is too few", "use 1 or more")
        for name in ("gpus_per_worker", "checkpoint_every_steps", "micro_batch"):
            if not 0 <= getattr(self, name) < math.inf:
                faults.add(name, f"{getattr(self, name)} cannot be", "use 0 or more")
        if 1 < self.gpus_per_worker < math.inf and self.gpus_per_worker % 1:
            faults.add("gpus_per_worker", f"{self.gpus_per_worker:g} cannot be", "above 1 use whole numbers")
        faults.raise_if_any(InputError)

    def placement(
        self,
        device: torch.device,
        rank: int = 0,
        checkpoint_asked: Callable[[], bool] | None = None,
    ) -> Placement:
        """Placement of one of the workers."""
        from prism_ray.training.reporter import Placement  # brings PyTorch

        return Placement(
            device=device,
            rank=rank,
            n_workers=self.n_workers,
            checkpoint_every_steps=self.checkpoint_every_steps,
            micro_batch=self.micro_batch,
            checkpoint_activations=self.checkpoint_activations,
            checkpoint_asked=checkpoint_asked,
        )

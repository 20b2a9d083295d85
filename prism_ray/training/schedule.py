"""Learning rate by step: a linear warm-up, then a cosine."""

from __future__ import annotations

import math

from prism_ray.config import OptimizerConfig


def learning_rate(optimizer: OptimizerConfig, step: int, n_steps: int) -> float:
    """Learning rate of a step, counted from 0 to `n_steps - 1`.

    Step 0 has `warmup_learning_rate`, the step after the warm-up the highest rate, and the cosine would
    reach `final_learning_rate` at step `n_steps`.

    Source: the published protocol (arXiv 2602.21550): 1e-5 to 5e-4 over the first 10 %, cosine to 1e-4.
    """
    n_warmup = round(optimizer.warmup_fraction * n_steps)
    if step < n_warmup:
        return optimizer.warmup_learning_rate + (optimizer.learning_rate - optimizer.warmup_learning_rate) * (
            step / n_warmup
        )
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    fall = optimizer.learning_rate - optimizer.final_learning_rate
    return optimizer.final_learning_rate + fall * 0.5 * (1.0 + math.cos(math.pi * progress))

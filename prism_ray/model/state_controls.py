"""States that are not learned: what an encoder of background states must be better than.

Both stand in the encoder's place, have no parameters, and start where it starts, so that a model with them differs in
nothing else. Legend: B genes, L positions in bp, S signals, D channels, n background states.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from prism_ray.config import ModelConfig
from prism_ray.model.confounders import state_weights

INITIAL_LOGIT_STD = 0.5
"""Standard deviation over channels and states of an untrained encoder's output before its activation; the mean is 0.

The linear layer of 4c inputs draws weights and biases uniformly within 1 / sqrt(4c), so that for inputs around p the
variance is p^2 / 3 + 1 / (12 c). Inputs are normalised, rectified, max-pooled and averaged. Measured: p 0.71 to 0.78
and deviation 0.50 on simulated tracks; 0.60 on white noise (p 1.04) and 0.39 on a random walk (p 0.52) as extremes."""


class RandomStates(nn.Module):
    """Weights a_i drawn once and never trained, the same for every gene: do states have to be learned?

    Attributes:
        weights: (D, n) float32 buffer, saved with the model: independent logits from N(0, 0.5^2), as of an untrained
            encoder, through the model's activation.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        logits = INITIAL_LOGIT_STD * torch.randn(1, config.d_model, config.n_states)
        self.register_buffer("weights", state_weights(logits, config.weight_activation)[0])

    def forward(self, signals: Tensor) -> Tensor:
        """The same weights for each gene, (B, D, n), whatever its signals (B, L, S)."""
        weights: Tensor = self.get_buffer("weights")
        return weights.expand(len(signals), -1, -1)


class DropoutStates(nn.Module):
    """Channels masked by chance, with the mean of untrained sigmoid weights: is it only noise that helps?

    In evaluation every channel has its expected weight, the probability that it is kept; nothing is divided by that
    probability, since a learned weight is not either.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_channels, self.n_states, self.keep = config.d_model, config.n_states, config.state_keep

    def forward(self, signals: Tensor) -> Tensor:
        """Masks of 0 and 1, (B, D, n), from PyTorch's generator in training mode; else the expected weights.

        A run draws its masks by `drawn`, which does not depend on where it runs.
        """
        shape = (len(signals), self.n_channels, self.n_states)
        expected = torch.full(shape, self.keep, dtype=signals.dtype, device=signals.device)
        return torch.bernoulli(expected) if self.training else expected

    def drawn(self, seed: int, step: int, batch_size: int, rows: slice) -> Tensor:
        """Masks of some genes of a step's global batch, (rows, D, n) float32 on the CPU.

        A function of the arguments alone: the same for any number of workers, and for a run that goes on.

        Args:
            seed: of the run.
            step: number of the step, from 0.
            batch_size: genes of the global batch.
            rows: theirs in it.
        """
        digest = hashlib.sha256(f"{seed}/dropout_states/{step}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        chance = torch.rand(batch_size, self.n_channels, self.n_states, generator=generator)
        return (chance[rows] < self.keep).float()

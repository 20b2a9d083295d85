"""The published arrangement of the bidirectional block, around the package's own scan: the baseline of model.py.

What is published runs a block's two directions as two whole Mamba mixers that share the weights of their
projections, on channel-first tensors: each has its own product into and out of the inner channels, its own
convolution, SiLU, step sizes and gate, and the reverse one works on a flipped copy. All n + 1 copies of the input
pass it, at evaluation too. Values are those of `prism_ray.model`; the way there is longer.

Legend: B genes (times copies), L positions in bp, D channels, E inner channels, N state size, R rank of the step size.
Sources: Schiff et al. 2024, arXiv 2403.03234; arXiv 2602.21550.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prism_ray.model import Prism, selective_scan
from prism_ray.model.backbone import BidirectionalBlock, Direction

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""u, delta (B, L, E), A (E, N), B, C (B, L, N), D, delta_bias (E,) -> (B, L, E)."""

Mixer = Callable[[Tensor, "PublishedBlock", Direction], Tensor]
"""One direction's whole mixer from left to right: normed hidden states (B, L, D) -> (B, L, D)."""


def default_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    """The package's scan by its fastest kernel."""
    return selective_scan(u, delta, A, B, C, D, delta_bias=delta_bias)


class PublishedBlock(nn.Module):
    """Residual block of two whole mixers, with the weights of a `BidirectionalBlock`."""

    def __init__(self, block: BidirectionalBlock, scan: Scan = default_scan, mixer: Mixer | None = None) -> None:
        super().__init__()
        self.norm, self.in_proj, self.out_proj = block.norm, block.in_proj, block.out_proj
        self.left_to_right, self.right_to_left = block.left_to_right, block.right_to_left
        self.scan = scan
        self.mixer = mixer

    def forward(self, residual: Tensor) -> Tensor:
        """Residual stream after this block, (B, L, D)."""
        normed = self.norm(residual)
        forward = self._mixer(normed, self.left_to_right)
        backward = self._mixer(torch.flip(normed, dims=(1,)), self.right_to_left)
        return residual + (forward + torch.flip(backward, dims=(1,)))

    def _mixer(self, hidden: Tensor, direction: Direction) -> Tensor:
        """One whole Mamba mixer from left to right, (B, L, D)."""
        if self.mixer is not None:
            return self.mixer(hidden, self, direction)
        n_positions = hidden.shape[1]
        x, z = self.in_proj(hidden).transpose(1, 2).chunk(2, dim=1)  # (B, E, L)
        x = x.contiguous()  # otherwise the convolution's backward pass can take fifty times as long
        conv, width = direction.conv, direction.conv.kernel_size[0]
        u = F.silu(F.conv1d(x, conv.weight, conv.bias, padding=width - 1, groups=conv.groups)[..., :n_positions])
        u = u.transpose(1, 2)  # (B, L, E)
        n_state = direction.A_log.shape[1]
        sizes = [direction.dt_proj.in_features, n_state, n_state]
        low_rank, into, out_of = torch.split(direction.x_proj(u), sizes, dim=-1)
        delta = F.linear(low_rank, direction.dt_proj.weight)  # (B, L, E)
        rates = -torch.exp(direction.A_log)
        y = self.scan(u, delta, rates, into, out_of, direction.D, direction.dt_proj.bias)
        mixed: Tensor = self.out_proj(y * F.silu(z.transpose(1, 2)))
        return mixed


def published_arrangement(model: Prism, scan: Scan = default_scan, mixer: Mixer | None = None) -> Prism:
    """Turn a model into the published arrangement in place: the same weights, outputs equal to rounding.

    Args:
        model: a Caduceus model.
        scan: what runs the recurrence.
        mixer: what runs a direction as a whole, in place of the scan and what stands around it here.
    """
    blocks = [block for block in model.backbone.modules() if isinstance(block, BidirectionalBlock)]
    model.backbone.blocks = nn.ModuleList([PublishedBlock(block, scan, mixer) for block in blocks])
    return model

"""The backbone's forward and backward pass as CUDA graphs: launched as one, where a small batch waits for launches.

At the published batch a training step is some 1,400 launches, which cost the CPU more time than the GPU needs for
them. A graph repeats the same launches on the same memory: values are those of the plain pass to the bit.
"""

from __future__ import annotations

import torch
from torch import nn

WARM_UPS = 3


def graph_backbone(backbone: nn.Module, shape: tuple[int, int, int], dtype: torch.dtype | None) -> None:
    """Make a backbone run as CUDA graphs in training mode, where it then takes float32 inputs of one shape alone.

    A gradient that it leaves in a parameter is overwritten by its next backward pass: it must be used before, and be
    gone (None) when that one starts. Nothing else in the process may use the GPU while the graphs are made.

    Args:
        backbone: on a CUDA device; its parameters are updated in place alone.
        shape: (genes times copies, L, D) of its input.
        dtype: of autocast around it; None for none.

    Raises:
        RuntimeError: something in the backbone cannot be captured; it runs as before then.
    """
    # The graphs are made on a stream of their own and their gradients added on the usual one. PyTorch waits for the one
    # before the other, and warns that this costs time, where it knows how to be told that it is meant.
    expect_mismatch = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
    if expect_mismatch is not None:
        expect_mismatch(False)
    device = next(backbone.parameters()).device
    was_training = backbone.training
    sample = torch.zeros(shape, device=device, requires_grad=True)
    try:
        # Weights that autocast rounded once would be frozen into the graph: they are rounded in it, every time.
        with torch.autocast("cuda", dtype, enabled=dtype is not None, cache_enabled=False):
            torch.cuda.make_graphed_callables(backbone.train(), (sample,), num_warmup_iters=WARM_UPS)
    finally:
        backbone.train(was_training)


def ungraph_backbone(backbone: nn.Module) -> None:
    """Make a backbone run launch by launch again, and free the memory of its graphs."""
    # The graphs hang on a method of the object that hides its class's.
    backbone.__dict__.pop("forward", None)

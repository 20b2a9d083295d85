"""One of two workers that evaluate a trial together, in a process of its own."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist

from prism_ray.distributed.trial import TrialTask, run_trial

N_WORKERS = 2


def evaluate(rank: int, task: TrialTask, meeting: str) -> None:
    """What Ray Train has each worker of a trial do, without Ray Train."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=N_WORKERS)
    record = run_trial(task, replace(task.resources.placement(torch.device("cpu")), rank=rank))
    assert (record is None) == (rank > 0)
    dist.destroy_process_group()

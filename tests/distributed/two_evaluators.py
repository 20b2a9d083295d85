"""One of two workers that evaluate a trial together, in a process of its own."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist

import prism_ray.store
from prism_ray.distributed.evaluation import evaluated_genes
from prism_ray.distributed.trial import TrialTask, run_trial
from prism_ray.store.reading import bytes_read

N_WORKERS = 2


def evaluate(rank: int, task: TrialTask, meeting: str) -> None:
    """What Ray Train has each worker of a trial do, without Ray Train; what it reads of the store is in `read-RANK`."""
    torch.set_num_threads(1)
    # Names, labels and scalars, which a process reads once.
    reader = evaluated_genes(task.loading, prism_ray.store.open(task.store), task.config)
    assert len(reader.genes.gene_id)
    before = bytes_read()
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=N_WORKERS)
    record = run_trial(task, replace(task.resources.placement(torch.device("cpu")), rank=rank))
    assert (record is None) == (rank > 0)
    dist.destroy_process_group()
    (task.folder.parent / f"read-{rank}").write_text(str(bytes_read() - before))

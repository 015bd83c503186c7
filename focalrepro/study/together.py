"""Runs one after another, each trained by all the processes that torchrun started.

    torchrun --nproc-per-node 8 --max-restarts 3 -m focalrepro.cli run grid --profile coco

Rank 0 evaluates and keeps the records. After a restart the run that was under way goes on from its
checkpoint.
"""

from collections.abc import Sequence

import torch

from focalrepro.runs import load_splits, run_with_model
from focalrepro.study.ablations import Planned
from focalrepro.study.store import Store
from focalrepro.training.loop import Checkpoint, train
from focalrepro.training.ranks import Ranks


def train_together(jobs: Sequence[Planned], store: Store, device: torch.device, ranks: Ranks) -> None:
    """Trains what the store lacks. Errors: ValueError for a run that cannot be shared, before the first; else
    what torch raises, which ends all ranks, and torchrun starts them again."""
    for job in jobs:
        ranks.check(job.config)
    for number, job in enumerate(jobs, start=1):
        config, checkpoint = job.config, Checkpoint(store.checkpoint_path(job.run_id))
        if ranks.rank:
            train(config, load_splits(config)[0], device, checkpoint=checkpoint, ranks=ranks)
            continue
        record, *_ = run_with_model(config, device, checkpoint=checkpoint, ranks=ranks)
        store.put(record)
        checkpoint.drop()
        print(f"{number:3}/{len(jobs)}  {job.title}: {record.status}, AP {record.AP:.1f}", flush=True)

"""The runs of a campaign on an existing Ray cluster (`--on ray` or `--on ray://HOST:PORT`).

One task a run, on a core or on a GPU or a share of one. Every machine of the cluster has this package
installed and prepares the data by itself; records come back and are kept here as they finish.
"""

from contextlib import closing, suppress
from typing import Any

import torch

from focalrepro.config import TRAINING_VERSION, RunConfig
from focalrepro.data.prepare import ensure
from focalrepro.evaluation.record import Record
from focalrepro.hardware import pick_device
from focalrepro.runs import run
from focalrepro.study.ablations import Planned
from focalrepro.study.jobs import RETRIES, Progress
from focalrepro.study.store import Store

LOOK_EVERY = 2.0  # seconds between two looks at how far the runs are
WAYS = "local, ray (a cluster of this machine, or that of RAY_ADDRESS), or ray://HOST:PORT"


def check_way(on: str, gpus_per_run: float) -> None:
    """ValueError for what is no way to run or no share of GPUs, or where Ray is not installed."""
    if not (0 < gpus_per_run <= 1 or (gpus_per_run > 1 and float(gpus_per_run).is_integer())):
        raise ValueError(f"--gpus-per-run is {gpus_per_run:g}; it must lie above 0, as .25, 1 or 2")
    if on == "local":
        return
    if on != "ray" and not on.startswith("ray://"):
        raise ValueError(f"--on is {on!r}; there are {WAYS}")
    try:
        import ray  # noqa: F401
    except ImportError:
        raise ValueError("--on ray needs Ray: pip install '.[ray]'") from None


class Board:
    """An actor: how far each run is, as the tasks say it. They do not wait for it, as for Ray's own queue."""

    def __init__(self) -> None:
        self.news: dict[str, tuple[str, float]] = {}

    def put(self, run_id: str, phase: str, done: float) -> None:
        self.news[run_id] = phase, done

    def take(self) -> dict[str, tuple[str, float]]:
        """What is new since the last time."""
        news, self.news = self.news, {}
        return news


def run_one(run_id: str, config: RunConfig, device: str, version: int, board: Any) -> dict[str, Any]:
    """A task: the record of one run as JSON's types.

    Errors: RuntimeError where this machine has another version of the training code, or other data.
    """
    if version != TRAINING_VERSION:
        raise RuntimeError(f"training version {TRAINING_VERSION} here, not {version}: install it anew")
    ensure(config.dataset)
    if pick_device(device).type == "cpu":
        torch.set_num_threads(1)
    record = run(config, device, lambda phase, done, total: board.put.remote(run_id, phase, done / total))
    if record.run_id != run_id:
        raise RuntimeError(f"{config.dataset} is another here: its run is {record.run_id}, not {run_id}")
    return record.as_json()


def run_on_ray(jobs: list[Planned], store: Store, on: str, device: str, gpus_per_run: float) -> int:
    """Trains what the store lacks on a cluster; returns how many runs failed.

    As `campaign.run_missing`. gpus_per_run: below 1 several share a GPU. Errors: ConnectionError where there
    is no such cluster.
    """
    import ray

    if not jobs:
        return 0
    ray.init(address=on if "://" in on else None, ignore_reinit_error=True, log_to_driver=False)
    on_gpu = device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    needs = {"num_gpus": gpus_per_run} if on_gpu else {"num_cpus": 1}
    task = ray.remote(max_retries=RETRIES, **needs)(run_one)
    board, failed = ray.remote(num_cpus=0)(Board).remote(), 0
    with closing(Progress(jobs)) as progress:
        by_id = {job.run_id: job for job in jobs}
        waiting = {task.remote(j.run_id, j.config, device, TRAINING_VERSION, board): j for j in jobs}
        while waiting:
            ended, _ = ray.wait(list(waiting), timeout=LOOK_EVERY)
            with suppress(ray.exceptions.RayActorError):  # its machine is gone: no more is told of what runs
                for run_id, (phase, done) in ray.get(board.take.remote()).items():
                    progress.update(by_id[run_id], phase, done, "")
            for reference in ended:
                job = waiting.pop(reference)
                try:
                    record = Record.model_validate(ray.get(reference))
                except ray.exceptions.RayError as error:
                    failed += 1
                    store.put_error(job.run_id, f"{job.title}: {error}\n")
                    progress.update(job, "failed", 1.0, str(error).strip().splitlines()[-1])
                    continue
                store.put(record)
                progress.update(job, record.status, 1.0, record.outcome)
    return failed

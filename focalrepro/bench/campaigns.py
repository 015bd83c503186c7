"""Whole campaigns: this machine's own worker processes against a Ray cluster of the same machine."""

import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from focalrepro import hardware
from focalrepro.bench import measure
from focalrepro.bench.measure import Finding, Sizes
from focalrepro.config import RunConfig
from focalrepro.study.ablations import Planned
from focalrepro.study.campaign import prepare, run_missing, with_ids
from focalrepro.study.on_ray import run_on_ray
from focalrepro.study.store import Store


def bench_ray(profile: str, config: RunConfig, sizes: Sizes) -> Iterator[Finding]:
    """Seconds of some short runs from the command to the last record, by both ways; nothing without Ray.

    Each way starts what it needs: processes, or a cluster and its processes, which ends with the campaign.
    """
    if find_spec("ray") is None:
        return
    count, steps = sizes.campaign
    short = config.replace(steps=steps, warmup=1)
    planned = [Planned(short.replace(seed=seed), (("bench", profile),)) for seed in range(count)]
    jobs = with_ids(planned)
    prepare(jobs, "cpu")

    def of_ray(store: Store) -> int:
        import ray  # an extra

        os.environ.setdefault("RAY_worker_niceness", "0")  # as the other way has it; Ray's own is 15
        try:
            return run_on_ray(jobs, store, "ray", "cpu", gpus_per_run=1.0)
        finally:
            ray.shutdown()

    def seconds(campaign: Callable[[Store], int]) -> float:
        with TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # a line for each run
            store, start = Store(Path(folder)), perf_counter()
            if campaign(store):
                errors = [path.read_text() for path in store.folder.glob("errors/*.txt")]
                raise RuntimeError("a run of the bench failed: " + "".join(errors[:1]))
            return perf_counter() - start

    ours, theirs = measure.in_turn(
        sizes.repeats, lambda: seconds(lambda store: run_missing(jobs, store, "cpu")), lambda: seconds(of_ray)
    )
    more = (theirs["median"] - ours["median"]) / count
    note = f"the start and the end of each way included: {more:.1f} s more a run"
    what = f"{count} runs of {steps} steps, profile {profile}, {hardware.cores()} CPU cores"
    yield measure.row(what, "the same by --on ray, a cluster of this machine", "s", ours, theirs, note=note)

"""A campaign: the missing runs of some ablations, several at once, each kept the moment it is done."""

import ctypes
import multiprocessing
import os
import queue
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from focalrepro import hardware
from focalrepro.config import RunConfig
from focalrepro.data.prepare import ensure
from focalrepro.progress import bar as progress_bar
from focalrepro.runs import load_splits
from focalrepro.study.ablations import Planned, plan
from focalrepro.study.profiles import get_profile
from focalrepro.study.records import Record
from focalrepro.study.store import Store


@dataclass(frozen=True)
class Job:
    run_id: str
    planned: Planned

    @property
    def config(self) -> RunConfig:
        return self.planned.config

    @property
    def title(self) -> str:
        """The first ablation and row that want it, and its seed."""
        return f"{': '.join(self.planned.wanted_by[0])}, seed {self.config.seed}"


def check_count(option: str, value: int, zero: str) -> None:
    """ValueError that names the option where its number is below 0; zero: what 0 stands for."""
    if value < 0:
        raise ValueError(f"{option} is {value}; it must be 1 or more, or 0 for {zero}")


def with_ids(planned: Iterable[Planned], progress: bool = True) -> list[Job]:
    """Gives every planned run its id; each dataset that they share is loaded (and decoded) once."""
    digests: dict[tuple, tuple[str, str]] = {}
    jobs = []
    for p in planned:
        c = p.config
        key = (c.dataset, c.classes, c.image_size, c.train_images, c.val_images)
        if key not in digests:
            train_data, val_data = load_splits(c, progress)
            digests[key] = (train_data.digest, val_data.digest)
        jobs.append(Job(c.run_id(*digests[key]), p))
    return jobs


def take_over(jobs: Iterable[Job], source: Store, target: Store) -> int:
    """Copies finished runs from another store (committed results, say) that the target lacks; returns how
    many."""
    count = 0
    for job in jobs:
        if target.get(job.run_id) is None and (record := source.get(job.run_id)) is not None:
            target.put(record, reused=True)
            count += 1
    return count


TRIAL = {"steps": 3, "warmup": 1, "batch_size": 4, "train_images": 16, "val_images": 16}


def run_ablations(
    profile_name: str,
    ablations: Sequence[str] = (),
    seeds: int = 0,
    device: str = "auto",
    workers: int = 0,
    recipe: str = "fast",
    dataset: str = "",
    reuse: Path | None = None,
    limit: int = 0,
    trial: bool = False,
) -> int:
    """Trains the missing runs of a profile's ablations (none: all of its own); returns how many failed.

    seeds, workers, limit: 0 as the command line says; trial: a few steps on a few images, in a store of their
    own. Errors: ValueError or RuntimeError that names an option which is wrong, before anything is made.
    """
    check_count("--seeds", seeds, "the profile's own number")
    check_count("--limit", limit, "all")
    changes = ({"dataset": dataset} if dataset else {}) | (TRIAL if trial else {})
    profile = get_profile(profile_name)
    planned = plan(profile, list(ablations or profile.ablations), seeds, recipe, **changes)
    store = Store.local(f"{profile_name}-trial" if trial else profile_name, dataset)
    failed = run_planned(planned, store, device, workers, reuse, limit)
    if failed:
        print(f"{failed} runs failed; their errors are in {store.folder / 'errors'}")
    return failed


def run_planned(
    planned: list[Planned],
    store: Store,
    device: str = "auto",
    workers: int = 0,
    reuse: Path | None = None,
    limit: int = 0,
) -> int:
    """Trains what a store lacks of some runs, at most `limit` of them (0: all); returns how many failed.

    reuse: a folder of results whose finished runs are taken first. Errors: as `run_missing`;
    FileNotFoundError where there is nothing to reuse; RuntimeError where another process trains into the
    store.
    """
    check_count("--workers", workers, "as many as cores on a CPU, one on a GPU")
    hardware.pick_device(device)
    ensure(planned[0].config.dataset)
    with store.lock():
        jobs = with_ids(planned)
        if reuse:
            runs = reuse / "runs" if (reuse / "runs").is_dir() else reuse
            if not runs.is_dir():
                raise FileNotFoundError(f"{reuse}: no such folder of results to reuse")
            print(f"{take_over(jobs, Store(runs), store)} finished runs taken from {runs}")
        missing = [job for job in jobs if store.get(job.run_id) is None]
        print(f"{store.folder.name}: {len(jobs)} runs, {len(jobs) - len(missing)} done already")
        return run_missing(missing[:limit] if limit else missing, store, device, workers)


def run_missing(
    jobs: list[Job], store: Store, device: str = "auto", workers: int = 0, quiet: bool = False
) -> int:
    """Trains what the store lacks; returns the number of runs that failed with an error.

    On the CPU every run has one thread and there are as many workers as cores: small convolutions do not fill
    two cores, and a run's numbers do not depend on the number of cores. On a GPU, one worker unless told.
    Errors: RuntimeError names the runs that are not done where the workers died; those under way get an error
    file in the store.
    """
    check_count("--workers", workers, "as many as cores on a CPU, one on a GPU")
    missing = [job for job in jobs if store.get(job.run_id) is None]
    if not missing:
        return 0
    on_cpu = hardware.pick_device(device).type == "cpu"
    workers = min(workers or (hardware.cores() if on_cpu else 1), len(missing))
    prepare(missing, device)
    context = multiprocessing.get_context("spawn")
    todo: Queue = context.Queue()
    news: Queue = context.Queue()
    for job in [*missing, *[None] * workers]:  # None sends a worker home
        todo.put(job)
    processes = [
        context.Process(target=_work, args=(todo, news, store.folder, device, os.getpid()), daemon=True)
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        failed = _follow(missing, store, news, processes, quiet)
        for process in processes:
            process.join(timeout=10)
        return failed
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        for channel in (todo, news):
            channel.close()
            channel.cancel_join_thread()


def prepare(jobs: list[Job], device: str) -> None:
    """What runs share and no two workers should do at once: pretrained weights, features of a frozen
    backbone."""
    from focalrepro.detector.frozen_features import cached_features
    from focalrepro.training.batches import TrainData
    from focalrepro.training.initial import initial_model

    hardware.keep_memory()
    fields = (
        "dataset",
        "classes",
        "image_size",
        "train_images",
        "val_images",
        "backbone",
        "weights",
        "frozen",
    )
    shared = {
        tuple(getattr(job.config, f) for f in (*fields, "views", "kept_channels")): job.config for job in jobs
    }
    for config in shared.values():
        train_data, val_data = load_splits(config)
        model = initial_model(config, train_data, progress=True)
        if config.frozen == "backbone":
            TrainData(config, train_data, hardware.pick_device(device), model, progress=True)
            cached_features(model, val_data, hardware.pick_device(device))


def _work(todo: Queue, news: Queue, folder: Path, device: str, parent: int) -> None:
    """A worker process: takes runs until there are none left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _die_with(parent)
    import torch

    from focalrepro.runs import run
    from focalrepro.training.loop import Engines

    if hardware.pick_device(device).type == "cpu":
        torch.set_num_threads(1)
    store, engines = Store(folder), Engines()
    while (job := todo.get()) is not None:

        def report(phase: str, done: int, total: int, run_id: str = job.run_id) -> None:
            news.put((run_id, phase, done / total, ""))

        news.put((job.run_id, "start", 0.0, ""))  # so that it can be named if this process is killed
        try:
            record = Record.model_validate(run(job.config, device, report, engines))
            store.put(record)
            text = "no objects in val" if isnan(record.AP) else f"AP {record.AP:.1f}"
            news.put((job.run_id, record.status, 1.0, text))
        except Exception:
            engines.drop()
            text = traceback.format_exc()
            store.put_error(job.run_id, text)
            news.put((job.run_id, "failed", 1.0, text.strip().splitlines()[-1]))


def _die_with(parent: int) -> None:
    """Asks Linux to end this process with its parent, so that kill -9 of the campaign leaves no worker."""
    try:
        pr_set_pdeathsig = 1
        ctypes.CDLL("libc.so.6").prctl(pr_set_pdeathsig, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)


EVALUATION_SHARE = 0.15  # of a run's time; only for the estimate


def _follow(jobs: list[Job], store: Store, news: Queue, processes: list[Any], quiet: bool) -> int:
    """Shows progress with the time left until all jobs have ended; returns how many failed."""
    titles = {job.run_id: job.title for job in jobs}
    part = dict.fromkeys(titles, 0.0)
    under_way: set[str] = set()
    ended: set[str] = set()
    failed, started = 0, time.perf_counter()
    terminal = sys.stderr.isatty()
    form = "{desc} {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
    with progress_bar(total=float(len(jobs)), bar_format=form, disable=quiet or not terminal) as bar:
        bar.set_description_str(f"0/{len(jobs)} runs")
        while len(ended) < len(jobs):
            # Asked before the queue is: what a worker said before it ended is then read.
            alive = any(process.is_alive() for process in processes)
            try:
                run_id, phase, done, text = news.get(timeout=5 if alive else 1)
            except queue.Empty:
                if alive:
                    continue
                lost = [job for job in jobs if job.run_id not in ended and store.get(job.run_id) is None]
                if lost:
                    raise _died(lost, under_way, store, processes) from None
                break  # their records are there: only the news of them was lost
            before = part[run_id]
            if phase == "start":
                under_way.add(run_id)
            elif phase == "train":
                part[run_id] = done * (1 - EVALUATION_SHARE)
            elif phase == "evaluate":
                part[run_id] = 1 - EVALUATION_SHARE * (1 - done)
            else:
                part[run_id] = 1.0
                ended.add(run_id)
                failed += phase == "failed"
                gone = time.perf_counter() - started
                left = gone * (len(jobs) / sum(part.values()) - 1)
                line = f"{len(ended):3}/{len(jobs)}  {titles[run_id]}: {phase}, {text}"
                if not quiet:
                    bar.write(line if terminal else f"{line}   [{clock(gone)} gone, {clock(left)} left]")
                bar.set_description_str(f"{len(ended)}/{len(jobs)} runs", refresh=False)
            bar.update(max(0.0, part[run_id] - before))
    return failed


SHOWN = 10  # titles of waiting runs in an error; there may be hundreds


def _died(jobs: list[Job], under_way: set[str], store: Store, processes: list[Any]) -> RuntimeError:
    """The error with the titles of the jobs that no worker is left for; those under way get an error file."""
    codes = ", ".join(str(process.exitcode) for process in processes)
    cause = f"all worker processes ended early (exit codes {codes}; -9 is a kill, as where memory runs out)"
    mend = "the same command goes on; give --workers fewer where memory runs out"
    cut = [job for job in jobs if job.run_id in under_way]
    for job in cut:
        store.put_error(job.run_id, f"{job.title}: its worker process died; {cause}; {mend}\n")
    waiting = [job.title for job in jobs if job.run_id not in under_way]
    more = [f"… and {len(waiting) - SHOWN} more"] if len(waiting) > SHOWN else []
    lines = [f"  under way: {job.title}" for job in cut]
    lines += [f"  waiting: {title}" for title in [*waiting[:SHOWN], *more]]
    return RuntimeError("\n".join([f"{cause}; {len(jobs)} runs are not done; {mend}", *lines]))


def clock(seconds: float) -> str:
    """Minutes and seconds as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"

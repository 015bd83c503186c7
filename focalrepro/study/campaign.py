"""A campaign: the missing runs of some ablations, several at once, each kept the moment it is done."""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import isnan
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path

from focalrepro import hardware
from focalrepro.config import RunConfig
from focalrepro.data.prepare import ensure
from focalrepro.evaluation.record import RunFileError
from focalrepro.progress import bar as progress_bar
from focalrepro.runs import DATA, load_splits
from focalrepro.study.ablations import Planned, plan
from focalrepro.study.profiles import get_profile
from focalrepro.study.store import Store


@dataclass(frozen=True)
class Job:
    """A planned run and the id that its data gives it."""

    run_id: str
    planned: Planned

    @property
    def config(self) -> RunConfig:
        return self.planned.config

    @property
    def title(self) -> str:
        """The first ablation and row that want it, and its seed."""
        return f"{': '.join(self.planned.wanted_by[0])}, seed {self.config.seed}"


MOST = 1000  # seeds, workers or runs of one command: a typing error must not plan for hours


def check_count(option: str, value: int, zero: str) -> None:
    """ValueError that names the option where its number is below 0 or above MOST; zero: what 0 stands for."""
    if not 0 <= value <= MOST:
        raise ValueError(f"{option} is {value}; it must be 1 … {MOST}, or 0 for {zero}")


def with_ids(planned: Iterable[Planned], progress: bool = True) -> list[Job]:
    """Gives every planned run its id; each dataset that they share is loaded (and decoded) once."""
    digests: dict[tuple, tuple[str, str]] = {}
    jobs = []
    for p in planned:
        c = p.config
        key = tuple(getattr(c, field) for field in DATA)
        if key not in digests:
            train_data, val_data = load_splits(c, progress)
            digests[key] = (train_data.digest, val_data.digest)
        jobs.append(Job(c.run_id(*digests[key]), p))
    return jobs


def take_over(jobs: Iterable[Job], source: Store, target: Store) -> int:
    """Copies finished runs from another store (committed results, say) that the target lacks; returns how
    many. RunFileError names a record that is another run's."""
    count = 0
    for job in jobs:
        if target.get(job.run_id) is None and (record := source.get(job.run_id)) is not None:
            if other := record.config.differences(job.config):
                what = f"{source.path(job.run_id)}: another run's record, of {other}; delete the file"
                raise RunFileError(what)
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
    reuse: Path | None = None,
    limit: int = 0,
    trial: bool = False,
    weights: bool = False,
) -> int:
    """Trains the missing runs of a profile's ablations (none: all of its own); returns how many failed.

    seeds, workers, limit: 0 as the command line says; trial: a few steps on a few images, in a store of their
    own; weights: kept beside the records, and runs without them made again. Errors: ValueError or
    RuntimeError that names an option which is wrong, before anything is made.
    """
    check_count("--seeds", seeds, "the profile's own number")
    check_count("--limit", limit, "all")
    profile = get_profile(profile_name)
    planned = plan(profile, list(ablations or profile.ablations), seeds, **(TRIAL if trial else {}))
    store = Store.local(f"{profile_name}-trial" if trial else profile_name, weights)
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
    for dataset in sorted({run.config.dataset for run in planned}):
        ensure(dataset)
    with store.lock():
        jobs = with_ids(planned)
        if reuse:
            runs = reuse / "runs" if (reuse / "runs").is_dir() else reuse
            if not runs.is_dir():
                raise FileNotFoundError(f"{reuse}: no such folder of results to reuse")
            print(f"{take_over(jobs, Store(runs), store)} finished runs taken from {runs}")
        missing = [job for job in jobs if store.lacks(job.run_id)]
        print(f"{store.folder.name}: {len(jobs)} runs, {len(jobs) - len(missing)} done already")
        return run_missing(missing[:limit] if limit else missing, store, device, workers)


def run_missing(
    jobs: list[Job], store: Store, device: str = "auto", workers: int = 0, quiet: bool = False
) -> int:
    """Trains what the store lacks; returns the number of runs that failed.

    On the CPU every run has one thread and there are as many workers as cores: small convolutions do not fill
    two cores, and a run's numbers do not depend on the number of cores. On a GPU, one worker unless told. A
    run whose worker dies (as where memory runs out) is tried once more; then, as one that ends in an error,
    it is named, its error lies in the store, and the others go on.
    """
    check_count("--workers", workers, "as many as cores on a CPU, one on a GPU")
    missing = [job for job in jobs if store.lacks(job.run_id)]
    if not missing:
        return 0
    on_cpu = hardware.pick_device(device).type == "cpu"
    workers = min(workers or (hardware.cores() if on_cpu else 1), len(missing))
    prepare(missing, device)
    waiting, tries, failed = deque(missing), Counter[str](), 0
    with Progress(missing, quiet) as progress, ExitStack() as stack:

        def hire() -> Worker:
            worker = Worker(store, device)
            stack.callback(worker.end)
            worker.take(waiting.popleft())
            return worker

        staff = [hire() for _ in range(workers)]
        while staff:
            for worker in connection.wait([w.pipe for w in staff]):
                worker = next(w for w in staff if w.pipe is worker)
                job, (phase, done, text) = worker.job, worker.news()
                if phase == "died":
                    if not store.lacks(job.run_id):  # after its record was whole
                        phase, text = "done", "its worker died after it"
                    elif tries[job.run_id] < RETRIES:
                        tries[job.run_id] += 1
                        waiting.appendleft(job)
                        progress.say(f"{job.title}: {text}; it is tried once more")
                        phase = "again"
                    else:
                        store.put_error(job.run_id, f"{job.title}: {text}; {MEMORY}\n")
                        phase, text = "failed", f"{text}; {MEMORY}"
                progress.update(job, phase, done, text)
                failed += phase == "failed"
                if phase in ("train", "evaluate"):
                    continue
                if phase in ("done", "diverged") and worker.is_alive() and waiting:
                    worker.take(waiting.popleft())
                    continue
                worker.end()
                staff.remove(worker)
                if waiting:
                    staff.append(hire())  # anew: an error may have left the device in pieces
    return failed


RETRIES = 1
MEMORY = "give --workers fewer where memory runs out; the same command tries it again"


class Worker:
    """A process that trains one run after another; what it says comes through a pipe, and its end, too."""

    def __init__(self, store: Store, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, store, device, os.getpid())
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()  # else its end would not end the pipe
        self.job: Job

    def is_alive(self) -> bool:
        return self.process.is_alive()

    def take(self, job: Job) -> None:
        """Gives it a run; that of a worker which is dead already is heard from `news`."""
        self.job = job
        with suppress(OSError):
            self.pipe.send(job)

    def news(self) -> tuple[str, float, str]:
        """Phase, share of it that is done, and a line; phase "died" where the process has ended."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(timeout=60)  # a loaded machine takes its time over a kill
            return "died", 0.0, f"its worker process died (exit code {self.process.exitcode}; -9 is a kill)"

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def prepare(jobs: list[Job], device: str) -> None:
    """What runs share and no two workers should do at once: pretrained weights, features of a frozen
    backbone. Where memory runs out at it, the runs themselves will say so, and the others go on."""
    from focalrepro.detector.frozen_features import cached_features
    from focalrepro.training.batches import TrainData
    from focalrepro.training.initial import initial_model

    hardware.keep_memory()
    fields = (*DATA, "backbone", "weights", "frozen", "views", "kept_channels")
    shared = {tuple(getattr(job.config, f) for f in fields): job.config for job in jobs}
    for config in shared.values():
        with suppress(MemoryError, RuntimeError):  # the second is torch's where memory runs out
            train_data, val_data = load_splits(config)
            model = initial_model(config, train_data, progress=True)
            if config.frozen == "backbone":
                TrainData(config, train_data, hardware.pick_device(device), model, progress=True)
                cached_features(model, val_data, hardware.pick_device(device))


def _work(pipe: Connection, store: Store, device: str, parent: int) -> None:
    """A worker process: takes runs until it is ended, or one of them fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _die_with(parent)
    import torch  # here and below: the parent of a campaign that has nothing to do needs none of it

    from focalrepro.runs import run_with_model
    from focalrepro.training.loop import Engines
    from focalrepro.training.weights import save_model

    if hardware.pick_device(device).type == "cpu":
        torch.set_num_threads(1)
    engines = Engines()
    while True:
        job = pipe.recv()
        try:
            report = lambda phase, done, total: pipe.send((phase, done / total, ""))  # noqa: E731
            record, result, _ = run_with_model(job.config, device, report, engines)
            if store.weights and not record.diverged:  # first: a record says that all is there
                names = load_splits(job.config)[0].categories
                save_model(store.weights_path(record.run_id), result.model, names)
            store.put(record)
            text = "no objects in val" if isnan(record.AP) else f"AP {record.AP:.1f}"
            pipe.send((record.status, 1.0, text))
        except Exception:
            text = traceback.format_exc()
            store.put_error(job.run_id, text)
            pipe.send(("failed", 1.0, text.strip().splitlines()[-1]))
            return


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


class Progress:
    """A bar over all runs with the time left; a line for each run that ends."""

    def __init__(self, jobs: list[Job], quiet: bool) -> None:
        self.part = {job.run_id: 0.0 for job in jobs}
        self.ended, self.quiet, self.terminal = 0, quiet, sys.stderr.isatty()
        form = "{desc} {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
        hidden = quiet or not self.terminal
        self.bar = progress_bar(total=float(len(jobs)), bar_format=form, disable=hidden)
        self.bar.set_description_str(f"0/{len(jobs)} runs")
        self.started = time.perf_counter()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        if not self.quiet:
            self.bar.write(line)

    def update(self, job: Job, phase: str, done: float, text: str) -> None:
        """One message of a run's worker; "again": from its start."""
        before, total = self.part[job.run_id], len(self.part)
        shares = {"train": done * (1 - EVALUATION_SHARE), "evaluate": 1 - EVALUATION_SHARE * (1 - done)}
        now = self.part[job.run_id] = shares.get(phase, float(phase != "again"))
        if phase in ("done", "diverged", "failed"):
            self.ended += 1
            gone = time.perf_counter() - self.started
            left = gone * (total / sum(self.part.values()) - 1)
            line = f"{self.ended:3}/{total}  {job.title}: {phase}, {text}"
            self.say(line if self.terminal else f"{line}   [{clock(gone)} gone, {clock(left)} left]")
            self.bar.set_description_str(f"{self.ended}/{total} runs", refresh=False)
        self.bar.update(max(0.0, now - before))


def clock(seconds: float) -> str:
    """Minutes and seconds as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"

"""A campaign: the missing runs of some ablations, several at once, each kept the moment it is done."""

import multiprocessing
import os
import signal
import sys
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import replace
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from focalrepro import hardware
from focalrepro.config import RunConfig
from focalrepro.data.prepare import ensure
from focalrepro.detector.frozen_features import cached_features
from focalrepro.evaluation.record import Record
from focalrepro.runs import DATA, data_of, load_splits, run_with_model
from focalrepro.study.ablations import Planned, check_count, plan
from focalrepro.study.jobs import RETRIES, Progress, of_other_machines
from focalrepro.study.on_ray import check_way, run_on_ray
from focalrepro.study.profiles import get_profile
from focalrepro.study.store import Store
from focalrepro.training.batches import TrainData
from focalrepro.training.engines import Engines
from focalrepro.training.initial import initial_model, save_model
from focalrepro.training.loop import Checkpoint, train
from focalrepro.training.ranks import Ranks


def with_ids(planned: Sequence[Planned]) -> list[Planned]:
    """Gives every planned run its id; each dataset that they share is loaded (and decoded) once."""
    configs = {data_of(p.config): p.config for p in planned}
    digests = {data: [split.digest for split in load_splits(c)] for data, c in configs.items()}
    return [replace(p, run_id=p.config.run_id(*digests[data_of(p.config)])) for p in planned]


def take_over(jobs: Iterable[Planned], source: Store, target: Store) -> int:
    """Copies finished runs that the target lacks; how many."""
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
    trial: bool = False,
    weights: bool = False,
    **how: Any,
) -> int:
    """Trains the missing runs of a profile's ablations (none: all of its own); returns how many failed.

    seeds: 0 as the command line says; trial: a few steps on a few images, in a store of their own; weights:
    kept beside the records, and runs without them made again; how: as in `run_planned`. Errors: ValueError or
    RuntimeError that names an option which is wrong, before anything is made.
    """
    profile = get_profile(profile_name)
    planned = plan(profile, list(ablations or profile.ablations), seeds, **(TRIAL if trial else {}))
    store = Store.local(f"{profile_name}-trial" if trial else profile_name, weights)
    if failed := run_planned(planned, store, **how):
        print(f"{failed} runs failed; their errors are in {store.folder / 'errors'}")
    return failed


def run_planned(
    planned: list[Planned],
    store: Store,
    device: str = "auto",
    workers: int = 0,
    reuse: Path | None = None,
    limit: int = 0,
    on: str = "local",
    gpus_per_run: float = 1.0,
) -> int:
    """Trains what a store lacks of some runs, at most `limit` of them (0: all); returns how many failed.

    reuse: a folder of results whose finished runs are taken first. on: "local", or a Ray cluster (`on_ray`),
    where a GPU has 1 / gpus_per_run runs at once. Where torchrun started this process, it and its like train
    one run after another, each together. Errors: ValueError for an option that is wrong; FileNotFoundError
    where there is nothing to reuse; RuntimeError where another process trains into the store.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A script without the guard: each worker process that it starts runs it anew, from its first line.
        raise RuntimeError('put what calls this under `if __name__ == "__main__":`, as its workers import it')
    check_count("--workers", workers, "as many as cores on a CPU, one on a GPU")
    check_count("--limit", limit, "all")
    check_way(on, gpus_per_run)
    if reuse:
        reuse = reuse / "runs" if (reuse / "runs").is_dir() else reuse
        if not reuse.is_dir():
            raise FileNotFoundError(f"{reuse}: no such folder of results to reuse")
    if on != "local" and store.weights:
        raise ValueError("--keep-weights: weights stay on a cluster's machines; leave out --on")
    # A cluster's driver need have no GPU itself.
    ranks, own_device = Ranks.join(hardware.pick_device(device if on == "local" else "cpu"))
    if ranks.rank:
        ranks.wait()  # what the first rank makes is then there for all
    for dataset in sorted({run.config.dataset for run in planned}):
        ensure(dataset)
    with nullcontext() if ranks.rank else store.lock():
        jobs = with_ids(planned)
        if reuse:
            print(f"{take_over(jobs, Store(reuse), store)} finished runs taken from {reuse}")
        missing = [job for job in jobs if store.lacks(job.run_id)]
        print(f"{store.folder.name}: {len(jobs)} runs, {len(jobs) - len(missing)} done already")
        if missing and on == "local" and (line := of_other_machines(store, jobs, own_device)):
            print(line)
        missing = missing[:limit] if limit else missing
        if on != "local":
            return run_on_ray(missing, store, on, device, gpus_per_run)
        if ranks.count == 1:
            return run_missing(missing, store, device, workers)
        if not ranks.rank:
            prepare(missing, device)
            ranks.wait()
        train_together(ranks.agree(missing), store, own_device, ranks)
        return 0


def train_together(jobs: Sequence[Planned], store: Store, device: torch.device, ranks: Ranks) -> None:
    """Trains what the store lacks, one run after another, each by all the processes that torchrun started:

        torchrun --nproc-per-node 8 --max-restarts 3 -m focalrepro.cli run grid --profile coco

    Rank 0 evaluates and keeps the records. Errors: ValueError for a run that cannot be shared, before the
    first; else what torch raises, which ends all ranks: torchrun starts them again, and the run that was
    under way goes on from its checkpoint. Several machines must share the store, whose checkpoints all read.
    """
    hardware.use_device(str(device))
    for job in jobs:
        ranks.check(job.config)
    for number, job in enumerate(jobs, start=1):
        config, checkpoint = job.config, Checkpoint(store.checkpoint_path(job.run_id))
        if ranks.rank:
            train(config, load_splits(config)[0], device, checkpoint=checkpoint, ranks=ranks)
            continue
        record, result, _ = run_with_model(config, device, checkpoint=checkpoint, ranks=ranks)
        _keep(record, result.model, store, checkpoint)
        print(f"{number:3}/{len(jobs)}  {job.title}: {record.status}, {record.outcome}", flush=True)


def run_missing(jobs: list[Planned], store: Store, device: str = "auto", workers: int = 0) -> int:
    """Trains what the store lacks; returns the number of runs that failed.

    On the CPU every run has one thread and there are as many workers as cores: small convolutions do not fill
    two cores, and a run's numbers do not depend on the number of cores. On a GPU, one worker unless told, and
    the cores, which evaluate, are shared out. A run whose worker dies (as where memory runs out) is tried
    once more. One that fails is named, its error lies in the store, and the others go on.
    """
    check_count("--workers", workers, "as many as cores on a CPU, one on a GPU")
    missing = [job for job in jobs if store.lacks(job.run_id)]
    if not missing:
        return 0
    on_cpu = hardware.pick_device(device).type == "cpu"
    workers = min(workers or (hardware.cores() if on_cpu else 1), len(missing))
    threads = 1 if on_cpu else max(1, hardware.cores() // workers)
    prepare(missing, device)
    waiting, tries, failed = deque(missing), Counter[str](), 0
    with closing(Progress(missing)) as progress, ExitStack() as stack:

        def hire() -> Worker:
            worker = Worker(store, device, threads)
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
                if phase in ("done", "diverged") and worker.process.is_alive() and waiting:
                    worker.take(waiting.popleft())
                    continue
                worker.end()
                staff.remove(worker)
                if waiting:
                    staff.append(hire())  # anew: an error may have left the device in pieces
    return failed


MEMORY = "give --workers fewer where memory runs out; the same command tries it again"


class Worker:
    """A process that trains one run after another; what it says comes through a pipe, and its end, too."""

    def __init__(self, store: Store, device: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, store, device, threads, os.getpid())
        for library in ("OPENBLAS", "RAYON"):  # which read it where they are loaded: in the worker
            os.environ.setdefault(f"{library}_NUM_THREADS", str(threads))
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        # Ctrl-C is the parent's to answer, from a worker's first moment on, while it imports torch. Python's
        # resource tracker, which the first process would start, unblocks it, so that is started before.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self.process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # else its end would not end the pipe
        self.job: Planned

    def take(self, job: Planned) -> None:
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


def prepare(jobs: list[Planned], device: str) -> None:
    """What runs share and no two workers should do at once: pretrained weights, features of a frozen
    backbone. On a GPU by a process of its own, whose end gives the device's memory back. Where memory runs
    out at it, that is said, the runs try by themselves, and the others go on."""
    hardware.keep_memory()
    fields = (*DATA, "backbone", "weights", "frozen", "views", "kept_channels", "first_level", "last_level")
    shared = {tuple(getattr(job.config, f) for f in fields): job.config for job in jobs}
    with ExitStack() as stack:
        make = _prepare_one
        if hardware.pick_device(device).type == "cuda":
            pool = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
            make = lambda *given: pool.submit(_prepare_one, *given).result()  # noqa: E731
        for config in shared.values():
            try:
                make(config, device)
            except (MemoryError, RuntimeError) as error:  # the second is torch's where memory runs out
                line = next(iter(str(error).splitlines()), type(error).__name__)
                print(f"not prepared, so each run will try: {line}", file=sys.stderr)


def _prepare_one(config: RunConfig, device: str) -> None:
    train_data, val_data = load_splits(config)
    model = initial_model(config, train_data)
    if config.frozen == "backbone":
        used = hardware.use_device(device)
        for view in range(config.views):
            cached_features(model, train_data, used, view)
        cached_features(model, val_data, used)
        if used.type == "cpu":
            TrainData(config, train_data, used, model)  # its matches are kept on disk, too


def _work(pipe: Connection, store: Store, device: str, threads: int, parent: int) -> None:
    """A worker process: takes runs until it is ended, or one of them fails."""
    hardware.die_with(parent)
    hardware.use_device(device)
    torch.set_num_threads(threads)
    engines = Engines()
    while True:
        job = pipe.recv()
        try:
            report = lambda phase, done, total: pipe.send((phase, done / total, ""))  # noqa: E731
            checkpoint = Checkpoint(store.checkpoint_path(job.run_id))
            if checkpoint.path.exists():
                engines.kept = None  # a captured step cannot be put where another training stood
            record, result, _ = run_with_model(job.config, device, report, engines, checkpoint)
            _keep(record, result.model, store, checkpoint)
            pipe.send((record.status, 1.0, record.outcome))
        except torch.OutOfMemoryError:  # another worker's peak, it may be: the run is tried once more
            traceback.print_exc()
            os._exit(1)
        except Exception:
            text = traceback.format_exc()
            store.put_error(job.run_id, text)
            pipe.send(("failed", 1.0, text.strip().splitlines()[-1]))
            return


def _keep(record: Record, model: nn.Module, store: Store, checkpoint: Checkpoint) -> None:
    """The model where the store keeps weights, then the record: all is there, and the checkpoint goes."""
    if store.weights and not record.diverged:
        save_model(store.weights_path(record.run_id), model, load_splits(record.config)[0].categories)
    store.put(record)
    checkpoint.path.unlink(missing_ok=True)

"""`focalrepro doctor`: what this machine has and can run; and proof that a device computes right.

Each check compares a fast path with a plain one. They run on a CPU as well, where what a GPU alone has (a
captured step, numbers of a loss as tensors) has a stand-in, so that the checks themselves are tested
everywhere.
"""

import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import get_args

import torch

from focalrepro import hardware
from focalrepro.bench.kernels import loss_is_fp64s, norms_are_torchs
from focalrepro.config import TRAINING_VERSION, RunConfig
from focalrepro.data import DetectionData
from focalrepro.data.prepare import ensure
from focalrepro.data.registry import prepared
from focalrepro.evaluation.detect import detect, select
from focalrepro.files import data_root
from focalrepro.runs import load_splits, run_with_model
from focalrepro.study.ablations import plan
from focalrepro.study.profiles import PROFILES
from focalrepro.study.status import time_left
from focalrepro.study.store import Store
from focalrepro.training import batches as batch_source
from focalrepro.training.batches import batches, config_anchors
from focalrepro.training.criteria import LOSSES
from focalrepro.training.engines import Engines, new_step
from focalrepro.training.loop import CHECK_EVERY, run_steps, train
from focalrepro.training.step import Step

Check = Callable[[torch.device], str]
LONGEST = 120.0  # seconds that a GPU may take for a check: one that hangs must not cost the others theirs
NORMALIZERS = get_args(RunConfig.__annotations__["normalizer"])
# fp32, so that two ways of computing the same agree to some digits; a short training.
SMALL = PROFILES["smoke"].base.replace(precision="fp32", steps=5, warmup=2, lr=1e-3)
R50V2 = SMALL.replace(backbone="resnet50v2", first_level=3, last_level=6, frozen="stage1", batch_size=2)
CACHED = SMALL.replace(weights="digits", frozen="backbone", flip=False, views=4)
TWO_STAGES = SMALL.replace(detector="faster_rcnn")
SAME = {"rtol": 1e-3, "atol": 1e-3}


def doctor(device_name: str = "") -> int:
    """Prints what the machine has; with a device, proves it. Returns 1 where a check fails."""
    print(*machine(), sep="\n")
    if not device_name:
        return 0
    device = hardware.pick_device(device_name)
    ensure(SMALL.dataset)
    failed, pool, on_gpu, spawn = 0, None, device.type == "cuda", multiprocessing.get_context("spawn")
    for name, check in CHECKS.items():
        started, pool = time.perf_counter(), pool or ProcessPoolExecutor(1, spawn)
        try:
            said = pool.submit(check_on, check, device_name).result(LONGEST if on_gpu else None)
        except Exception as error:  # a broken kernel ends its process, or leaves the device useless to it
            line = next(iter(str(error).strip().splitlines()), "")
            failed, said = failed + 1, f"FAILED: {type(error).__name__}: {line}"
            for process in multiprocessing.active_children():  # it may hang
                process.kill()
            pool.shutdown()
            pool = None
        print(f"{name}: {said} ({time.perf_counter() - started:.0f} s)", flush=True)
    if pool:
        pool.shutdown()
    print(f"{device}: {f'{failed} checks failed' if failed else 'all checks passed'}")
    return 1 if failed else 0


def check_on(check: Check, device_name: str) -> str:
    """What a check says of a device, which it has to itself and waits for."""
    device = hardware.use_device(device_name)
    if device.type == "cuda":  # two ways of computing the same must differ by nothing else
        torch.backends.cudnn.deterministic = True
    said = check(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return said


def machine() -> Iterator[str]:
    """Lines: processor, memory, disk, GPU, versions, prepared data, and the time each profile would take."""
    here, root = hardware.describe("cpu"), data_root()
    free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    yield f"{here['cpu']}, {here['cores']} cores, {hardware.memory() / 1e9:.0f} GB of memory"
    there = ", ".join(prepared()) or "nothing yet"
    yield f"data in {root}: {free / 1e9:.0f} GB of disk free; prepared: {there}"
    for i in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(i)
        yield f"cuda:{i}: {gpu.name}, {gpu.total_memory / 1e9:.0f} GB"
    if not torch.cuda.is_available():
        yield "no CUDA device: runs are made on the CPU"
    yield f"python {here['python']}, torch {here['torch']}, torchvision {here['torchvision']}"
    for name, profile in PROFILES.items():
        planned, store = plan(profile, list(profile.ablations)), Store.local(name)
        done = {r.config for r in store.records() if r.training_version == TRAINING_VERSION}
        missing = sum(run.config not in done for run in planned)
        left = time_left(missing, store, profile) if missing else "nothing is missing"
        dataset = profile.base.dataset
        data = "" if dataset in prepared() else f", after the data `{dataset}` is made"
        yield f"  {name:15} {missing:4} of {len(planned)} runs to make: {left}{data}"


def losses_of(config: RunConfig, data: DetectionData, device: torch.device, fast: bool) -> torch.Tensor:
    """Losses [3, steps] of a training: fast is the captured step, on a CPU its numbers as tensors."""
    step = new_step(config, data, device)
    step.captures = step.captures and fast
    if fast and device.type == "cpu":
        step.dials = step.dials.on(device)
    history = run_steps(step, config).history
    if fast and step.captures and step.graph is None:
        raise AssertionError("no step was captured")
    return torch.tensor([history[name] for name in ("loss", "class_loss", "box_loss")])


def pairs() -> Iterator[RunConfig]:
    """Each loss with each divisor, and with the other optimizer; ResNet-50 v2 with both; the parts of
    Sampling-Free; cached views, whole and reduced."""
    for loss in sorted(LOSSES):
        for normalizer in NORMALIZERS:
            with suppress(ValueError):  # RunConfig refuses what makes no sense together
                yield SMALL.replace(loss=loss, normalizer=normalizer, epsilon=0.5)
        yield SMALL.replace(loss=loss, optimizer="sgd")
    for optimizer in ("adamw", "sgd"):
        yield R50V2.replace(optimizer=optimizer)
    yield from (SMALL.replace(guided=True), SMALL.replace(prior=0.0))
    yield from (CACHED, CACHED.replace(kept_channels=0.5))


def captured_is_eager(device: torch.device) -> str:
    """Losses of short trainings, captured against eager."""
    configs, (data, _), wrong = list(pairs()), load_splits(SMALL), []
    for config in configs:
        try:
            same_losses(config, data, device)
        except AssertionError as error:
            wrong.append(str(error))
    if wrong:
        raise AssertionError(f"{len(wrong)} of {len(configs)} differ: {'; '.join(wrong)}")
    return f"{len(configs)} pairs of loss, divisor, optimizer and backbone"


def same_losses(config: RunConfig, data: DetectionData, device: torch.device) -> None:
    """AssertionError that names the config where the two ways part."""
    fast, plain = (losses_of(config, data, device, fast) for fast in (True, False))
    what = f"{config.loss}, {config.normalizer}, {config.optimizer}, {config.backbone}"
    torch.testing.assert_close(fast, plain, **SAME, msg=lambda text: f"{what}: {text.splitlines()[-1]}")


def first_steps_are_a_cpus(device: torch.device) -> str:
    """The losses of a first step, and after one update, on the device against the CPU, in fp32."""
    configs, (data, _) = (SMALL, R50V2, CACHED), load_splits(SMALL)
    for config in configs:
        here, there = (losses_of(config, data, of, False)[:, :2] for of in (device, torch.device("cpu")))
        torch.testing.assert_close(here, there, **SAME)
    return f"{len(configs)} backbones"


def bf16_follows_fp32(device: torch.device) -> str:
    """The fast path in bf16 against it in fp32: the same losses to bf16's digits, of both backbones."""
    if not hardware.has_bf16(device):
        return "this device has no bf16"
    (data, _), worst = load_splits(SMALL), 0.0
    for config in (SMALL, R50V2):
        low, high = (losses_of(config.replace(precision=p), data, device, True) for p in ("bf16", "fp32"))
        torch.testing.assert_close(low, high, rtol=0.05, atol=0.02)
        worst = max(worst, float((low / high - 1).abs().max()))
    return f"worst relative difference of a loss {worst:.0e}"


def no_step_waits(device: torch.device) -> str:
    """Steps of every loss that may be captured, eager and then captured, where waiting is an error."""
    if device.type != "cuda":
        return "waiting is a GPU's matter"
    configs, (data, _) = list(pairs()), load_splits(SMALL)
    told = 0
    for config in configs:
        step = new_step(config, data, device)
        index, views = (t.to(device) for t in batches(len(step.source), config))
        step(index[0], views[0], 1e-3)  # libraries and tables are made at the first
        if not step.captures:
            continue
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(Step.EAGER_STEPS + 1):
                step(index[0], views[0], 1e-3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        told += 1
    return f"{told} kinds of step"


def restart_is_alone(device: torch.device) -> str:
    """A run, its evaluation, then another on the same step, against that other one alone."""
    data, val = load_splits(SMALL)
    other, engines = SMALL.replace(gamma=0.0, alpha=0.75, seed=1), Engines(everywhere=True)
    first = train(SMALL, data, device, engines=engines)
    detect(first.model, SMALL, val, device)
    again, alone = train(other, data, device, engines=engines), train(other, data, device)
    both = [torch.tensor(r.history["loss"]) for r in (again, alone)]
    torch.testing.assert_close(*both, **SAME)
    return f"the last loss is {both[0][-1]:.4f} both times"


def selection_is_the_cpus(device: torch.device) -> str:
    """Detections of random predictions, on the device and on the CPU: the same classes, boxes and scores."""
    generator = torch.Generator().manual_seed(0)
    grid, kept = config_anchors(SMALL), 0
    there = replace(grid, boxes=grid.boxes.to(device))
    for shift in (-4.0, 2.0):  # few that score, and so many that suppression has much to do
        logits = torch.randn(len(grid.boxes), 10, generator=generator) + shift
        offsets = torch.randn(len(grid.boxes), 4, generator=generator) * 0.3
        found = select(logits.to(device), offsets.to(device), there, SMALL)
        wanted = select(logits, offsets, grid, SMALL)
        for mine, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine.cpu(), other, rtol=1e-4, atol=1e-3)
        kept += len(wanted[1])
    return f"{kept} detections"


def whole_runs_leave_records(device: torch.device) -> str:
    """Runs from data to record, as a campaign makes them: of images, cached maps and two stages; and a
    training whose maps do not fit the device."""
    engines, kinds = Engines(), (SMALL, SMALL.replace(gamma=0.0), CACHED, TWO_STAGES)
    for config in kinds:
        record = run_with_model(config, device, engines=engines)[0]
        if record.diverged or (config is not TWO_STAGES and not record.loss_distribution):
            raise AssertionError(f"{config.detector}, {config.frozen} frozen: {record.status}")
    (data, _), resident = load_splits(CACHED), batch_source.RESIDENT
    there = train(CACHED, data, device).history
    batch_source.RESIDENT = 0.0
    try:
        streamed = train(CACHED, data, device).history
    finally:
        batch_source.RESIDENT = resident
    torch.testing.assert_close(*(torch.tensor(h["loss"]) for h in (streamed, there)), **SAME)
    return f"{len(kinds)} records, and the same losses from files"


def memory_is_flat(device: torch.device) -> str:
    """Memory that 40 steps of OHEM reserve, after their first ten."""
    config, seen, on_gpu = SMALL.replace(loss="ohem", steps=4 * CHECK_EVERY), [], device.type == "cuda"
    look = lambda done, total: seen.append(torch.cuda.memory_reserved(device) / 1e6 if on_gpu else 0)  # noqa: E731
    train(config, load_splits(config)[0], device, look)
    if not on_gpu:
        return "reserved memory is a GPU's matter"
    said = f"{seen[0]:.0f} MB after {CHECK_EVERY} steps, {seen[-1]:.0f} after {config.steps}"
    if seen[-1] > 1.1 * seen[0]:
        raise AssertionError(said)
    return said


CHECKS: dict[str, Check] = {
    "the loss is fp64's": loss_is_fp64s,
    "norms are torch's": norms_are_torchs,
    "the first steps are a CPU's": first_steps_are_a_cpus,
    "a captured step is an eager one": captured_is_eager,
    "no step waits": no_step_waits,
    "bf16 follows fp32": bf16_follows_fp32,
    "a restarted run is one alone": restart_is_alone,
    "selection is the CPU's": selection_is_the_cpus,
    "whole runs leave records": whole_runs_leave_records,
    "memory stays flat": memory_is_flat,
}

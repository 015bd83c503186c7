"""Timing by torch.utils.benchmark: sides in turn, medians and spread; what a machine can do at most."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from focalrepro import hardware

Call = Callable[[], Any]
Spread = dict[str, float]  # median, low, high and n of some measurements
Limits = dict[str, float]  # teraflops of a square product; gigabytes a second of a copy, read and written
Finding = tuple[str, dict[str, Any]]  # the record's list that it goes to, and what goes there
NO_MORE = {"more_is_better": False, "note": "", "share": None, "limit": ""}
NO_MORE |= {"like_for_like": None, "extrapolated": False}
PROFILED = {  # by type of device: what a profile records, and where what counts is
    "cpu": ([ProfilerActivity.CPU], DeviceType.CPU),
    "cuda": ([ProfilerActivity.CPU, ProfilerActivity.CUDA], DeviceType.CUDA),
}


@dataclass(frozen=True)
class Sizes:
    """How much a bench measures; little of it proves the path, and its numbers mean nothing."""

    run_time: float = 1.0  # seconds that a measurement lasts at least
    repeats: int = 3  # of each measurement
    matrix: int = 2_048  # its side, for the limits
    loss: tuple[int, int, int] = (64, 12_276, 80)  # images, anchors, classes
    decoded: int = 16  # images of a batch of the evaluation
    images: int = 2_939  # of the evaluation in all
    replicates: int = 1_000
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)  # these three: points of the curves
    sides: tuple[int, ...] = (64, 96, 128, 192, 256)  # pixels
    counts: tuple[int, ...] = (250, 500, 1000, 2000, 4000)  # validation images
    profiles: tuple[str, ...] = ("quick", "coco-cpu")  # trained on a CPU
    steps: tuple[int, ...] = (64, 128)  # batches trained on a GPU
    campaign: tuple[int, int] = (8, 100)  # runs and their steps


def spread(values: Sequence[float]) -> Spread:
    """Median, least and greatest of n measurements."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "n": len(values)}


def scaled(by: float, side: Spread, added: Spread | None = None) -> Spread:
    """A spread `by` times, and another added to it; as many measurements as the fewer of both."""
    added = added or {"median": 0.0, "low": 0.0, "high": 0.0, "n": side["n"]}
    sums = {key: by * side[key] + added[key] for key in ("median", "low", "high")}
    return sums | {"n": min(side["n"], added["n"])}


def row(what: str, against: str, unit: str, ours: Spread, theirs: Spread, **more: Any) -> Finding:
    """One comparison. Both sides in `unit`; its ratio says how many times better ours is.

    more: whether `more_is_better`, else less is; a `note`; the `share` of this machine's `limit`, by its
    name, that ours reaches; `like_for_like`, ours with all cores in one run, as the other side has it;
    `extrapolated`, where the other side is a multiple of one measurement.
    """
    a, b = ours["median"], theirs["median"]
    kept = {"what": what, "against": against, "unit": unit, "ours": ours, "theirs": theirs, **NO_MORE, **more}
    return "rows", kept | {"ratio": a / b if kept["more_is_better"] else b / a}


def seconds(call: Call, device: torch.device, run_time: float = 0.0) -> float:
    """Mean seconds of a call, its work on the device done, over run_time at least, after a call to warm up.

    torch's own clock would wait for the current GPU, which `device` need not be.
    """

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter()

    timer = Timer("call()", globals={"call": call}, timer=clock, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=run_time).mean


def timed(calls: Sequence[Call], device: torch.device, sizes: Sizes) -> list[Spread]:
    """Seconds of each call, measured in turn."""
    return in_turn(sizes.repeats, *(partial(seconds, call, device, sizes.run_time) for call in calls))


def in_turn(repeats: int, *measures: Callable[[], float]) -> list[Spread]:
    """Of each the spread, measured A B A B …"""
    turns = [[measure() for measure in measures] for _ in range(repeats)]
    return [spread(side) for side in zip(*turns, strict=True)]


def measure_limits(device: torch.device, sizes: Sizes) -> Limits:
    """The best of some repeats, since these are limits; 64 bytes are copied for a number of the matrix.

    The product is in bf16, where the device has it, else in fp32.
    """
    number = torch.bfloat16 if hardware.has_bf16(device) else torch.float32
    a, b = torch.randn(2, sizes.matrix, sizes.matrix, device=device, dtype=number)
    source, target = torch.empty(2, 64 * sizes.matrix**2, dtype=torch.uint8, device=device)
    product, copy = (
        min(seconds(call, device, sizes.run_time / 5) for _ in range(5))
        for call in (lambda: a @ b, lambda: target.copy_(source))
    )
    flops, moved = 2 * sizes.matrix**3, 2 * source.numel()
    return {"teraflops": flops / product / 1e12, "gigabytes": moved / copy / 1e9}


def heaviest(what: str, call: Call, device: torch.device, count: int = 25, calls: int = 5) -> Finding:
    """The kernels (on a CPU: operators) that take most of a call: name, seconds and times in one call."""
    activities, kind = PROFILED[device.type]
    with profile(activities=activities, acc_events=True) as record:  # waits for the device where it ends
        for _ in range(calls):
            call()
    field = "self_cpu_time_total" if device.type == "cpu" else "self_device_time_total"
    events = [e for e in record.key_averages() if e.device_type == kind and not e.is_user_annotation]
    rows = sorted(((getattr(e, field), e.count, e.key) for e in events), reverse=True)[:count]
    kernels = [{"name": n, "seconds": us / calls / 1e6, "times": times / calls} for us, times, n in rows]
    return "kernels", {"what": what, "heaviest": kernels}


def curve(
    what: str, x_label: str, points: dict[float, Callable[[], Call]], device: torch.device, sizes: Sizes
) -> Finding:
    """Seconds of `what` at each x, whose value makes the call; one point after another.

    exponent: the slope on log-log axes, 1 where cost grows in proportion; of the upper half, where fixed
    costs weigh little.
    """
    y = [timed([make()], device, sizes)[0] for make in points.values()]
    x, half = list(points), len(points) // 2
    slope = np.polyfit(np.log(x[half:]), np.log([s["median"] for s in y[half:]]), 1)[0]
    return "curves", {"what": what, "x_label": x_label, "x": x, "exponent": float(slope), "y": y}

"""Training, images a second: our engine against torchvision's RetinaNet in its own loop, on the same data."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from focalrepro import hardware
from focalrepro.bench.limits import Limits
from focalrepro.bench.measure import Row, Spread, seconds
from focalrepro.bench.twin import TorchvisionLoop
from focalrepro.config import RunConfig
from focalrepro.data import load
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.study.profiles import get_profile
from focalrepro.training.loop import train


def our_rate(config: RunConfig, device: torch.device, steps: int) -> float:
    """Images a second of `train` over some steps, after a few to warm up."""
    data = load(config.dataset, "train", config.image_size, limit=config.train_images, classes=config.classes)
    short = config.replace(schedule="cosine", warmup=1)
    train(short.replace(steps=3), data, device)
    return train(short.replace(steps=steps), data, device).images_per_second


def their_rate(config: RunConfig, device: torch.device, steps: int) -> float:
    """The same of torchvision's loop."""
    data = load(config.dataset, "train", config.image_size, limit=config.train_images, classes=config.classes)
    loop = TorchvisionLoop(config, data, device)
    loop.step()
    return config.batch_size * steps / seconds(lambda: [loop.step() for _ in range(steps)], device)


def bench_cpu_training(profile: str, repeats: int = 3, steps: int = 12, their_steps: int = 2) -> Row:
    """A profile on the CPU as `focalrepro run` trains it: one run on each core, its own allocator settings.

    Against one process of torchvision's loop with all cores and the allocator as it comes. Every measurement is
    a process of its own, in turn, since allocator and threads are settings of a process.
    """
    cores = hardware.cores()
    pairs = [
        (sum(_processes("ours", profile, steps, cores)), _processes("theirs", profile, their_steps, 1)[0])
        for _ in range(repeats)
    ]
    return rates(
        f"training at profile {profile}, {cores} CPU cores",
        "torchvision's RetinaNet and loop, same layers and data, default allocator",
        pairs,
        goal=3.0,
        note=cpu_training_note(get_profile(profile).base, cores),
    )


def cpu_training_note(config: RunConfig, cores: int) -> str:
    """What a reader of a CPU training row must know: its two sides differ in more than the code."""
    said = [
        f"ours: {cores} runs at once, one thread each, images of all of them, against one process of torchvision's "
        "with all cores"
    ]
    if config.frozen == "backbone":
        said.append(
            "ours trains on cached features of the frozen backbone (made before the clock starts), torchvision's "
            "loop runs the backbone in every step"
        )
    if config.precision == "bf16":
        said.append(
            "ours in bf16, torchvision's in fp32"
        )  # `TorchvisionLoop.step` has autocast on a GPU only
    return "; ".join(said)


def rates(what: str, against: str, pairs: list[tuple[float, float]], goal: float, **more: Any) -> Row:
    """A row of images a second from pairs of (ours, theirs); more: `Row`'s other fields."""
    ours, theirs = (Spread.of(list(side)) for side in zip(*pairs, strict=True))
    return Row(what, against, "images/s", ours, theirs, more_is_better=True, goal=goal, **more)


def bench_at_once(device: torch.device, profile: str, repeats: int = 3, steps: int = 40) -> list[Row]:
    """Several runs at the same time against one alone that has the whole machine, images a second in all.

    On the CPU: a run on each core against one with a thread on each. On a GPU: two and four processes, each with
    its own graph, against one.
    """
    side = "ours" if device.type == "cpu" else "ours-cuda"
    rows = []
    for count in (hardware.cores(),) if device.type == "cpu" else (2, 4):
        alone = "ours-all-cores" if device.type == "cpu" else side
        pairs = [
            (sum(_processes(side, profile, steps, count)), _processes(alone, profile, steps, 1)[0])
            for _ in range(repeats)
        ]
        what = f"{count} runs at once, profile {profile}"
        rows.append(rates(what, "one run at a time, with the whole machine", pairs, goal=1.0))
    return rows


def _processes(side: str, profile: str, steps: int, count: int) -> list[float]:
    """Images a second of each of `count` processes that run at the same time."""
    command = [sys.executable, "-m", "focalrepro.bench.training", side, profile, str(steps)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(i) for i in range(count)]
        started = [
            subprocess.Popen([*command, str(f)], stdout=subprocess.DEVNULL, env=dict(os.environ))
            for f in files
        ]
        if any([process.wait() for process in started]):
            raise RuntimeError(f"{' '.join(command)}: failed; its error is above")
        return [json.loads(f.read_text()) for f in files]


COUNTED_AT = 128  # pixels; convolutions cost in proportion to them


def training_flops(config: RunConfig, classes: int) -> float:
    """Floating-point operations of one image, forward and backward, as torch counts them; 2 for a multiply-add.

    What is frozen has no backward. Counted on a small image and scaled.
    """
    model = RetinaNet(config.replace(weights="none"), classes).train()
    image = torch.zeros(1, 3, COUNTED_AT, COUNTED_AT, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        logits, offsets = model(image)
        (logits.sum() + offsets.sum()).backward()
    return counter.get_total_flops() * (config.image_size / COUNTED_AT) ** 2


def bench_gpu_training(
    config: RunConfig, device: torch.device, limits: Limits, repeats: int, steps: int
) -> Row:
    """One GPU, the same process, in turn; with the share of the matmul peak that ours reaches."""
    pairs = [
        (our_rate(config, device, steps), their_rate(config, device, max(4, steps // 5)))
        for _ in range(repeats)
    ]
    classes = len(load(config.dataset, "train", config.image_size, limit=1).categories)
    row = rates(
        f"training, {config.backbone} at {config.image_size}², batch {config.batch_size}, bf16",
        "torchvision's RetinaNet and loop, autocast, same layers and data in memory",
        pairs,
        goal=8.0,
        limit="matmul peak",
    )
    return replace(row, share=row.ours.median * training_flops(config, classes) / (limits.teraflops * 1e12))


def main() -> None:
    """A process of the benches above: side, profile, steps and the file that takes the result."""
    side, profile, steps, target = sys.argv[1:]
    config = get_profile(profile).base
    device = torch.device("cuda" if side == "ours-cuda" else "cpu")
    if side == "theirs":
        rate = their_rate(config, device, int(steps))
    else:
        hardware.keep_memory()
        torch.set_num_threads(hardware.cores() if side == "ours-all-cores" else 1)
        rate = our_rate(config, device, int(steps))
    Path(target).write_text(json.dumps(rate))


if __name__ == "__main__":
    main()

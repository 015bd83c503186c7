"""Training: our loss and our step against torchvision's, on the same data; runs side by side."""

import itertools
import multiprocessing
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from focalrepro import hardware
from focalrepro.bench import measure
from focalrepro.bench.measure import Call, Finding, Limits, Sizes, Spread
from focalrepro.config import RunConfig
from focalrepro.data import DetectionData, load
from focalrepro.detector.anchors import RATIOS
from focalrepro.detector.backbones import IMAGENET_MEAN, IMAGENET_STD
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.losses import BACKGROUND, IGNORED
from focalrepro.training.batches import batches, keeps_stage1
from focalrepro.training.engines import new_step
from focalrepro.training.focal_sum import detection_focal_loss
from focalrepro.training.initial import initial_model
from focalrepro.training.step import Step, learning_rate, make_optimizer

CPU = torch.device("cpu")
POSITIVE, LEFT_OUT = 1e-3, 2e-3  # shares of the anchors
COUNTED_AT = 128  # pixels; convolutions cost in proportion to them
CURVE_BATCH = 8  # images, of the curve over their size
ALONE = "one run at a time, with the whole machine"
RATE = {"unit": "images/s", "more_is_better": True}


def make_batch(device: torch.device, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Logits as they are early in training, around the prior's -4.6, and integer labels."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(shape[:2], generator=generator)
    labels = torch.full(shape[:2], BACKGROUND)
    labels[draw < POSITIVE + LEFT_OUT] = IGNORED
    labels[draw < POSITIVE] = torch.randint(shape[2], (int((draw < POSITIVE).sum()),), generator=generator)
    logits = torch.randn(shape, generator=generator, dtype=torch.bfloat16) - 4.6
    return logits.to(device).requires_grad_(), labels.to(device)


def our_loss(logits: Tensor, labels: Tensor) -> None:
    """Integer labels in, gradient out."""
    logits.grad = None
    detection_focal_loss(logits, labels, 0.25, 2.0).backward()


def their_loss(logits: Tensor, labels: Tensor) -> None:
    """As torchvision's RetinaNet does it: dense targets, 1 for each object; ignored anchors left out."""
    logits.grad = None
    kept, (image, anchor) = labels != IGNORED, (labels >= 0).nonzero(as_tuple=True)
    target = torch.zeros_like(logits, requires_grad=False)
    target[image, anchor, labels[image, anchor]] = 1
    torchvision_focal_loss(logits[kept], target[kept], alpha=0.25, gamma=2.0, reduction="sum").backward()


def extra_memory(logits: Tensor, labels: Tensor) -> float:
    """Peak memory that `our_loss` allocates, in units of the logits; the gradient counts."""
    logits.grad = None
    if logits.is_cuda:  # without a profiler, which slows what is timed after it
        torch.cuda.reset_peak_memory_stats(logits.device)
        before = torch.cuda.memory_allocated(logits.device)
        our_loss(logits, labels)
        return (torch.cuda.max_memory_allocated(logits.device) - before) / logits.nbytes
    activity, kind = measure.PROFILED[logits.device.type]
    with profile(activities=activity, profile_memory=True, acc_events=True) as record:
        our_loss(logits, labels)
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    events = sorted((e for e in events if e.device_type() == kind), key=lambda e: e.start_ns())
    return max(itertools.accumulate(e.nbytes() for e in events)) / logits.nbytes


def bench_loss(device: torch.device, limits: Limits, sizes: Sizes) -> Iterator[Finding]:
    """Seconds of one forward and backward, and the memory that ours needs on top, in units of the logits."""
    logits, labels = make_batch(device, sizes.loss)
    a, b = measure.timed([partial(loss, logits, labels) for loss in (our_loss, their_loss)], device, sizes)
    # At the least the logits are read once and their gradient is written once.
    share = 2 * logits.nbytes / (limits["gigabytes"] * 1e9) / a["median"]
    what = f"focal loss forward + backward, {' × '.join(map(str, sizes.loss))} in bf16"
    more = {"note": f"extra memory {extra_memory(logits, labels):.2f} × the logits", "share": share}
    yield measure.row(what, "torchvision.ops.sigmoid_focal_loss", "s", a, b, limit="copy bandwidth", **more)


class Pyramid(nn.Module):
    """Our backbone and pyramid behind torchvision's interface: normalised images to named maps."""

    def __init__(self, model: RetinaNet, channels: int) -> None:
        super().__init__()
        self.model, self.out_channels = model, channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.model.backbone(images)
        pyramid = self.model.pyramid([maps[level] for level in self.model.used])
        return OrderedDict((str(i), level) for i, level in enumerate(pyramid))


def torchvision_twin(model: RetinaNet, config: RunConfig, classes: int) -> TorchvisionRetinaNet:
    """A model's own layers; anchors, matching, targets, losses and post-processing are torchvision's."""
    scales = [config.anchor_size * 2 ** (k / config.anchor_scales) for k in range(config.anchor_scales)]
    sizes = tuple(tuple(2**level * scale for scale in scales) for level in config.levels)
    twin = TorchvisionRetinaNet(
        Pyramid(model, config.fpn_channels),
        num_classes=classes,
        anchor_generator=AnchorGenerator(sizes, (RATIOS[config.anchor_ratios],) * len(sizes)),
        min_size=config.image_size,
        max_size=config.image_size,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
        score_thresh=config.score_threshold,
        nms_thresh=config.nms,
        topk_candidates=config.topk,
        detections_per_img=config.max_detections,
    )
    theirs = twin.head.classification_head, twin.head.regression_head
    theirs[0].conv, theirs[0].cls_logits = model.class_head.layers[:-1], model.class_head.layers[-1]
    theirs[1].conv, theirs[1].bbox_reg = model.box_head.layers[:-1], model.box_head.layers[-1]
    return twin


def split(config: RunConfig) -> DetectionData:
    """What a config trains on; `runs.load_splits` would decode the validation images at each size, too."""
    more = {"limit": config.train_images, "classes": config.classes, "resize": config.resize}
    return load(config.dataset, "train", config.image_size, **more)


def our_step(config: RunConfig, device: torch.device, captured: bool = True) -> Call:
    """Our step on the next batch, warm; on a GPU it is captured, so that what follows are replays alone."""
    step = new_step(config, split(config), device)
    step.captures = step.captures and captured
    index, views = (t.to(device) for t in batches(len(step.source), config))
    turns = itertools.cycle(range(config.steps))

    def call() -> None:
        i = next(turns)
        step(index[i], views[i], learning_rate(i, config))

    for _ in range(Step.EAGER_STEPS + 1):
        call()
    return call


def precision(config: RunConfig, device: torch.device) -> str:
    """What our step computes in on a device: a CPU may lack bf16, whatever the config says."""
    return config.precision if hardware.has_bf16(device) else "fp32"


def their_step(config: RunConfig, device: torch.device) -> Call:
    """torchvision's reference loop on data in memory: a list of images and targets a step, losses summed.

    Mixed precision on a GPU as in the reference script, fp32 on a CPU. Flips, which there are the loader's
    work, are left out.
    """
    data, size = split(config), config.batch_size
    twin = torchvision_twin(initial_model(config, data), config, len(data.categories)).to(device).train()
    optimizer = make_optimizer(twin, config)
    images, boxes, labels = (
        torch.from_numpy(x[: 8 * size].copy()).to(device) for x in (data.images, data.boxes, data.labels)
    )
    targets = [{"boxes": box[k >= 0], "labels": k[k >= 0]} for box, k in zip(boxes, labels, strict=True)]
    inputs = list(images / 255)
    turns = itertools.cycle(slice(i, i + size) for i in range(0, len(inputs) - size + 1, size))

    def call() -> None:
        batch = next(turns)
        with hardware.autocast(device, wanted=device.type == "cuda"):
            loss = sum(twin(inputs[batch], targets[batch]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return call


def training_flops(config: RunConfig, classes: int, from_c2: bool = False) -> float:
    """Floating-point operations of one image, forward and backward, as torch counts them.

    2 for a multiply-add; what is frozen has no backward. Counted on a small image and scaled. from_c2: where
    the first stage's map is kept, and no step computes it.
    """
    model = RetinaNet(config, classes).train()
    images, c2 = (1, 3, COUNTED_AT, COUNTED_AT), (1, model.backbone.fixed_channels, *[COUNTED_AT // 4] * 2)
    given = torch.zeros(c2) if from_c2 else torch.zeros(images, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        logits, offsets = model(given)
        (logits.sum() + offsets.sum()).backward()
    return counter.get_total_flops() * (config.image_size / COUNTED_AT) ** 2


def bench_step(config: RunConfig, device: torch.device, limits: Limits, sizes: Sizes) -> Iterator[Finding]:
    """Both in one process, in turn; with the share of the matmul peak that ours reaches."""
    data, size = split(config), config.batch_size
    from_c2 = keeps_stage1(config, len(data), device)
    calls = our_step(config, device), their_step(config, device)
    a, b = measure.in_turn(
        sizes.repeats, *(lambda c=call: size / measure.seconds(c, device, sizes.run_time) for call in calls)
    )
    needed = training_flops(config, len(data.categories), from_c2)
    share = a["median"] * needed / (limits["teraflops"] * 1e12)
    what = step_name(config, device)
    apart = "ours keeps the maps of the frozen first stage, made before the clock starts"
    against = "torchvision's RetinaNet and loop, autocast, same layers and data in memory"
    more = {"note": apart * from_c2, "share": share, "limit": "matmul peak"}
    yield measure.row(what, against, ours=a, theirs=b, **RATE, **more)


def step_name(config: RunConfig, device: torch.device) -> str:
    """Which training step a row or a list of kernels is of."""
    size = f"batch {config.batch_size}, {precision(config, device)}"
    return f"training on {config.dataset}, {config.backbone} at {config.image_size}², {size}"


def bench_kernels(configs: list[RunConfig], device: torch.device) -> Iterator[Finding]:
    """The heaviest kernels of each config's step; after all that is timed, which a profiler slows. Not of a
    replay, whose kernels a profiler may time wrongly; an eager step has the same."""
    for config in configs:
        yield measure.heaviest(step_name(config, device), our_step(config, device, captured=False), device)


def bench_two(config: RunConfig, device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Two runs at the same time on one device, each with a graph of its own, against one that has it all."""
    new_step(config, split(config), device)  # what the runs share is made once, before there are two
    torch.cuda.empty_cache()  # theirs is the memory; without a GPU it does nothing
    both, alone = rates(config, device, sizes, ("ours", 2, 0), ("ours", 1, 0))
    cached = ", cached features" * (config.frozen == "backbone")
    what = f"2 runs at once, {config.backbone} at {config.image_size}², batch {config.batch_size}{cached}"
    yield measure.row(what, ALONE, ours=both, theirs=alone, **RATE)


def bench_cpu_runs(profile: str, config: RunConfig, sizes: Sizes) -> Iterator[Finding]:
    """A profile as `focalrepro run` trains it on the CPU, one run on each core with our allocator settings,
    against one process of torchvision's loop with all cores and the allocator as it comes, and against one of
    ours with all cores."""
    cores, cached, ours_in = hardware.cores(), config.frozen == "backbone", precision(config, CPU)
    new_step(config, split(config), CPU)  # what the runs share is made once, before there are many
    sides = ("ours", cores, 1), ("theirs", 1, 0), ("ours", 1, cores)
    many, other, one = rates(config, CPU, sizes, *sides)
    said = [
        f"ours: {cores} runs at once, one thread each, images of all of them, against one process of "
        "torchvision's with all cores",
        "ours trains on cached features of the frozen backbone (made before the clock starts), torchvision's "
        "loop runs the backbone in every step" * cached,
        "both in fp32" if ours_in == "fp32" else f"ours in {ours_in}, torchvision's in fp32",
        "like for like is not measured" * cached,
    ]
    more = {"note": "; ".join(filter(None, said)), "like_for_like": None if cached else one}
    what = f"training at profile {profile}, {cores} CPU cores"
    against = "torchvision's RetinaNet and loop, same layers and data, default allocator"
    yield measure.row(what, against, ours=many, theirs=other, **RATE, **more)
    yield measure.row(f"{cores} runs at once, profile {profile}", ALONE, ours=many, theirs=one, **RATE)


def rates(
    config: RunConfig, device: torch.device, sizes: Sizes, *sides: tuple[str, int, int]
) -> list[Spread]:
    """Images a second of each side, in turn: of all its processes, which are warm and measure at once.

    sides: "ours" or "theirs", its processes, and the threads of each; with 0, threads and allocator stay as
    they come. What a process raises is raised.
    """
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:

        def measure_of(side: str, count: int, threads: int) -> Callable[[], float]:
            pools = [stack.enter_context(ProcessPoolExecutor(1, spawn)) for _ in range(count)]
            given = side, config, device, threads, sizes.run_time
            return lambda: sum([each.result() for each in [pool.submit(_rate, *given) for pool in pools]])

        measures = [measure_of(*side) for side in sides]
        for warm_up in measures:
            warm_up()
        return measure.in_turn(sizes.repeats, *measures)


def _rate(side: str, config: RunConfig, device: torch.device, threads: int, run_time: float) -> float:
    return config.batch_size / measure.seconds(_warm_step(side, config, device, threads), device, run_time)


@cache  # once in each process of `rates`
def _warm_step(side: str, config: RunConfig, device: torch.device, threads: int) -> Call:
    if threads:
        hardware.keep_memory()
        torch.set_num_threads(threads)
    hardware.use_device(str(device))
    return {"ours": our_step, "theirs": their_step}[side](config, device)


def training_curves(config: RunConfig, device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """A training step against the batch at the config's image size, and against the pixels of an image."""
    small = config.replace(batch_size=CURVE_BATCH)
    by_batch = {n: partial(our_step, config.replace(batch_size=n), device) for n in sizes.batches}
    by_pixels = {float(n * n): partial(our_step, small.replace(image_size=n), device) for n in sizes.sides}
    what = f"training step, {config.image_size}² images", f"training step, {CURVE_BATCH} images"
    yield measure.curve(what[0], "images in a batch", by_batch, device, sizes)
    yield measure.curve(what[1], "pixels of an image", by_pixels, device, sizes)

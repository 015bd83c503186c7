"""Before own data is trained on: what is in it, and what its ablations will take, measured in a minute."""

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from focalrepro import hardware
from focalrepro.config import RunConfig
from focalrepro.data.annotations import Targets, make_targets, read_annotations
from focalrepro.data.own import register_own
from focalrepro.data.prepare import answer, ensure_weights
from focalrepro.data.registry import SPLITS, describe, load
from focalrepro.detector.frozen_features import PCA_IMAGES
from focalrepro.evaluation.detect import detect
from focalrepro.evaluation.measures import measures
from focalrepro.evidence.anchor_statistics import measure, reach
from focalrepro.files import DISK_FULL, data_root, is_set
from focalrepro.runs import load_splits
from focalrepro.study.ablations import plan
from focalrepro.study.campaign import with_ids
from focalrepro.study.profiles import PROFILES, Profile, get_profile, own_profile
from focalrepro.study.status import time_left
from focalrepro.study.store import Store
from focalrepro.training.batches import batches
from focalrepro.training.engines import new_step
from focalrepro.training.initial import initial_model

FEW = 8  # images of a split that are timed, and half the steps
FIRST = 300  # images from the first with an object on, whose anchors are counted


def take(
    name: str,
    data: Path,
    images: Sequence[Path],
    more: dict[str, Any],
    recipe: Sequence[str],
    ablations: Sequence[str] = (),
) -> None:
    """Registers own data as a profile, and gets the backbone's weights where it needs some.

    more: the other arguments of `register_own`; recipe: FIELD=VALUE of RunConfig; ablations: those that it
    will be asked for. Errors: ValueError or DatasetError that names the option, the ablation, or the file and
    the place in it, before anything is written.
    """
    if name in PROFILES:
        raise ValueError(f"--name is {name!r}, which is a profile already; give your data another name")
    fields = {}
    for word in recipe:
        field, is_given, value = word.partition("=")
        if not is_given:
            raise ValueError(f"--recipe is {word!r}; it must be FIELD=VALUE, as steps=1000")
        fields[field] = _value(field, value)
    plan(own_profile(name, fields), list(ablations), 1)  # refuses a field or an ablation
    register_own(name, data, images, recipe=fields or None, **more)
    if not fields and (kept := describe(name).parameters.get("recipe")):
        given = " ".join(f"{field}={value}" for field, value in kept.items())
        print(f"{name} keeps the recipe that it was given before: {given} (--recipe with others replaces it)")
    base = get_profile(name).base
    if base.weights == "imagenet":
        ensure_weights(name, base.backbone)


def _value(field: str, text: str) -> Any:
    """What a field's value on the command line means: JSON, and numbers and truth as Python has them."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = float(text)
        except ValueError:
            return text
    whole = isinstance(value, float) and value.is_integer() and RunConfig.__annotations__.get(field) is int
    return int(value) if whole else value


def agreed(profile: Profile, ablations: Sequence[str], seeds: int, device: torch.device) -> bool:
    """Prints what own data holds and what its missing runs will take; whether to go on.

    Nobody is asked where nothing is missing, nobody is there, or YES=1.
    """
    store, planned = Store.local(profile.name), plan(profile, list(ablations or profile.ablations), seeds)
    for line in what_is_there(profile.base):
        print(line, flush=True)
    missing = len(planned)
    if store.records():
        missing = sum(store.lacks(job.run_id) for job in with_ids(planned))
        if missing:
            print(f"  to do: {missing} of {len(planned)} runs, {time_left(missing, store, profile)}")
    else:
        for line in what_it_takes(profile.base, missing, device):
            print(line, flush=True)
    nobody = sys.stdin is None or not sys.stdin.isatty() or is_set("YES")
    return nobody or not missing or not answer("Start? [Y/n] ").startswith("n")


def what_is_there(config: RunConfig) -> Iterator[str]:
    """Lines: images, objects, how rare they are among anchors, which of them no anchor can reach."""
    train, val = (_targets(config, split) for split in SPLITS)
    low, high = train.sizes.min(0).astype(int), train.sizes.max(0).astype(int)
    sizes = f"{low[1]} … {high[1]} × {low[0]} … {high[0]} pixels, {config.resize} to {config.image_size}²"
    yield f"  images: {len(train.sizes):,} to train on, {len(val.sizes):,} to validate on; {sizes}"
    counts = np.bincount(train.labels[train.labels >= 0], minlength=len(train.categories))
    of = [f"{train.categories[k]} {counts[k]:,}" for k in np.argsort(-counts, kind="stable")]
    names = ", ".join(of[:6]) + f" and {len(of) - 6} more" * (len(of) > 6)
    yield f"  objects: {counts.sum():,} and {(val.labels >= 0).sum():,}; by class: {names}"
    for split, of in (("training", train), ("validation", val)):
        if not (of.labels >= 0).any():
            what = f"{len(of.sizes)} {split} images without an object"
            raise ValueError(f"{config.dataset}: {what}; label some")
    found = measure(train, config, FIRST + int((train.labels >= 0).any(1).argmax()))
    sides = " … ".join(f"{side:.0f}" for side in np.percentile(found.sides, (5, 50, 95)))
    yield f"  their sides: {sides} pixels of the {config.image_size} (of 5, 50, 95 %)"
    rare = f"1 in {1 + found.background_per_positive:,.0f} is assigned to an object"
    rare = rare if found.levels["positive"].any() else "none fits"
    limit = min(config.best_iou, config.pos_iou)
    far = 100 - reach(found.best_iou, (limit,)).iloc[0]
    some = f" (in the first {found.images} images)" * (found.images < len(train.sizes))
    yield f"  anchors: {found.anchors:,} an image, of which {rare}{some}"
    yield f"  out of reach: {far:.1f} % of the objects, whose IoU is below {limit:g} with every anchor"


def _targets(config: RunConfig, split: str) -> Targets:
    part = getattr(describe(config.dataset), split)
    found = read_annotations(data_root() / config.dataset / part.annotations)
    limit = config.train_images if split == "train" else config.val_images
    return make_targets(found.first(limit), config.image_size, config.classes, config.resize)


def what_it_takes(config: RunConfig, runs: int, device: torch.device) -> Iterator[str]:
    """Lines: time, memory and disk of so many runs like the baseline, measured on a few images and steps.

    The features of these few stay in the cache. ValueError where the disk has no room.
    """
    yield f"measuring on {FEW} images what {runs} runs will take"
    few = config.replace(train_images=FEW, val_images=FEW, views=1, steps=2 * FEW, warmup=0)
    images, val_images = (len(_targets(config, split).sizes) for split in SPLITS)
    more = {"limit": FEW, "classes": config.classes, "resize": config.resize}
    with TemporaryDirectory(dir=data_root()) as fresh:  # from the cache they would take no time
        again = partial(load, config.dataset, size=config.image_size, cache=Path(fresh), **more)
        _, decoding = _timed(lambda: [again(split) for split in SPLITS])
    train_data, val_data = load_splits(few)
    model, pixels = initial_model(few, train_data).to(device).eval(), np.array(train_data.images)
    with torch.inference_mode(), hardware.autocast(device):  # as `cached_features` has it
        _, encoding = _timed(lambda: [m.cpu() for m in model.features(torch.from_numpy(pixels).to(device))])
    step, threads = new_step(few, train_data, device), torch.get_num_threads()
    cpu, cached = device.type == "cpu", config.frozen == "backbone"
    torch.set_num_threads(1 if cpu else threads)  # as a run has it
    each = zip(*batches(len(step.source), few), strict=True)
    taken = [_timed(lambda rows=rows: (step(*rows, 0.0), step.losses.cpu()))[1] for rows in each]
    detect(step.model, few, val_data, device)  # caches their features
    _, judging = _timed(lambda: measures(val_data, *detect(step.model, few, val_data, device)))
    torch.set_num_threads(threads)

    count, every = len(train_data) + len(val_data), images + val_images
    projected = min(PCA_IMAGES, images) * (config.kept_channels < 1)
    encoded = cached * (images * config.views + val_images + projected)
    ready = decoding * every / count + encoding * encoded / len(train_data)
    run = config.steps * float(np.median(taken[FEW // 2 :])) + judging * val_images / len(val_data)
    workers = min(hardware.cores() if cpu else 1, runs)
    whole = _long(ready + run * -(-runs // workers))
    parts = f"{_long(ready)} to prepare, {runs} runs of {_long(run)}, {workers} at once"
    yield f"  time: about {whole} ({parts}), and some minutes for the notebooks"
    yield '    for less: ABLATIONS="1b" is one table; RECIPE="steps=1000", with a NAME, shorter runs'
    decoded, maps = pixels[0].nbytes, sum(m[0][0].nbytes for m in step.source.inputs)
    own = images * (maps * config.views if cached else decoded)
    match = getattr(step.source, "match", None)  # the two-stage detector makes its own as it goes
    matches = 0 if match is None else match[:, 0].numel()
    if cpu:  # where maps are read from the disk
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit * (workers + 1)
        used += workers * own * (not cached)
    else:
        used = torch.cuda.max_memory_allocated(device) + own
    there = hardware.memory() if cpu else torch.cuda.get_device_properties(device).total_memory
    disk = every * decoded + cached * (own + val_images * maps) + images * config.views * matches
    free = shutil.disk_usage(data_root()).free
    yield f"  memory: about {used / 1e9:.1f} of {there / 1e9:.0f} GB" + " of the GPU's" * (not cpu)
    yield f"  disk: {disk / 1e9:.1f} GB in {data_root()}, where {free / 1e9:.0f} GB are free"
    if disk > free:
        raise ValueError(f"{data_root()}: no room for {disk / 1e9:.1f} GB; {DISK_FULL}")


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _long(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} hours"

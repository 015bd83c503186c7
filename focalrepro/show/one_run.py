"""One training inside a notebook: a budget that suits a notebook, progress bars, and what came out of it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate
from tqdm import tqdm

from focalrepro import hardware
from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector.anchors import AnchorGrid
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.on_objects import Shares, share_on_objects
from focalrepro.evaluation.record import Record
from focalrepro.losses import focal_terms
from focalrepro.progress import bar
from focalrepro.runs import run_with_model
from focalrepro.show.tables import between, number
from focalrepro.study.profiles import get_profile
from focalrepro.study.study import Study
from focalrepro.training.loop import TrainResult, first_steps

IMAGES = 64  # of a split's first, over which a share is taken beside that of one image


def short_config(profile: str, steps: int = 0) -> RunConfig:
    """The profile's baseline for one training inside a notebook.

    steps 0 is the profile's own number on the embedded dataset and on a GPU. Where a CPU would otherwise
    train on photos for minutes or hours it is 60, or 10 where the backbone is trained as well; a shortened
    run on photos also takes fewer of them.
    """
    config = get_profile(profile).base
    slow = not config.dataset.startswith("synthetic") and hardware.pick_device("auto").type == "cpu"
    few = (60 if config.frozen == "backbone" else 10) if slow else config.steps
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps is {steps!r}; it must be 1 or more, or 0 for {few}")
    steps = steps or min(few, config.steps)
    if steps == config.steps:
        return config
    changes = {"steps": steps, "warmup": min(config.warmup, steps // 10)}
    if slow:
        batch = 16 if config.frozen == "backbone" else 4
        changes |= {"train_images": 120, "val_images": 60, "batch_size": min(config.batch_size, batch)}
    return config.replace(**changes)


def train(config: RunConfig) -> tuple[Record, TrainResult, Detections]:
    """One training with progress bars: its record, the model that it left and its detections on val."""
    return run_with_model(config, report=progress_bars())


@dataclass(frozen=True)
class Look:
    """Where the classification loss lies at some step.

    places: one image's, added up over the anchors of each place [S, S], S cells a side of the finest level.
    on_objects: its share on anchors that are assigned to objects. first: that share of the split's first
    images together, of the loss and of the sizes of its derivatives by the logits.
    """

    places: np.ndarray
    on_objects: float
    first: Shares


def background(maps: Mapping[str, Mapping[int, Look]], gradient: bool = False) -> pd.DataFrame:
    """What share of the loss, or of its gradient by the logits, the background has in the first images, in
    percent, as a training divides its batches: a row for each loss of `loss_maps`, a column for each step."""
    field = "divided_gradient" if gradient else "divided_loss"
    shares = {
        name: {f"step {at}": 100 * (1 - getattr(look.first, field)) for at, look in of.items()}
        for name, of in maps.items()
    }
    return pd.DataFrame.from_dict(shares, orient="index").round(0).astype("Int64")


def shares_on_one(maps: Mapping[str, Mapping[int, Look]]) -> str:
    """What share of one image's loss lies on anchors of objects, step by step, with "CE" and with "FL"."""
    cross, focal = ([look.on_objects for look in maps[name].values()] for name in ("CE", "FL"))
    after = zip(maps["CE"], cross, focal, strict=True)
    said = ", ".join(f"after {step} steps {ce:.0%} and {fl:.0%}" for step, ce, fl in after)
    text = f"**Share of this image's loss on anchors of objects, with CE and with FL: {said}.**"
    if min(cross) > 0.5:
        text += " So on it the background has less than half of cross entropy's loss at each of these looks."
    elif cross[0] < 0.5 < cross[-1]:
        text += " At the start cross entropy drowns: most of its loss is the background's. Later it is not."
    return f"{text} One image proves nothing: it was chosen for its objects, and others hold fewer."


def loss_maps(
    config: RunConfig,
    data: DetectionData,
    row: int,
    losses: Mapping[str, Mapping[str, object]],
    at: Sequence[int],
) -> dict[str, dict[int, Look]]:
    """Where the classification loss lies while detectors are trained on a split, by loss and step.

    losses: changes of the config, by a name. at: the steps, ascending, before which a look is taken. The
    images, their order and the start are the same for all losses. Of focal loss and cross entropy only.
    """
    cpu, maps = torch.device("cpu"), {}
    for name, changes in losses.items():
        own = config.replace(**changes)
        image, maps[name] = torch.tensor([row]), {}
        for done, step in first_steps(own, data, cpu, at):
            inputs, labels, _, _ = step.source.batch(image, torch.zeros(1, dtype=torch.long))
            step.model.eval()
            with torch.inference_mode():
                logits, _ = step.model(inputs)
            step.model.train()
            terms = focal_terms(logits[0], labels[0], own.alpha, own.gamma).sum(-1)
            share = float(terms[labels[0] >= 0].sum() / terms.sum().clamp(min=1e-30))
            first = share_on_objects(step.model, own, step.source, IMAGES)
            maps[name][done] = Look(_on_finest(terms, step.source.anchors), share, first)
    return maps


def _on_finest(terms: torch.Tensor, anchors: AnchorGrid) -> np.ndarray:
    """A number of each anchor [A], added up over the anchors of a cell and spread over the finest level's."""
    sides = [round((count / anchors.shapes) ** 0.5) for count in anchors.per_level]
    total = torch.zeros(1, 1, sides[0], sides[0])
    for part, side in zip(terms.split(anchors.per_level), sides, strict=True):
        level = part.view(1, 1, side, side, anchors.shapes).sum(-1)
        total += interpolate(level, sides[0]) * (side / sides[0]) ** 2
    return total[0, 0].numpy()


def verdict(record: Record, study: Study) -> str:
    """What one run in a notebook reached, and how that compares with the kept record of the baseline."""
    steps, interval = record.config.steps, between(*record.AP_interval)
    took = f"{steps} steps, {record.seconds.total:.0f} seconds"
    text = f"AP **{number(record.AP)} %** ({interval}) after {took}."
    if record.diverged:
        text = f"The training **diverged** after {record.history['step'][-1]:.0f} steps."
    text += " So few steps only show that the path works." if steps < 20 else ""
    kept = next((r for r in study.records if r.row == study.base and r.seed == 0), None)
    if kept is None:
        make = f"`focalrepro run 1b --profile {study.profile.name}`"
        return f"{text} There is no kept run of this baseline yet ({make} makes it)."
    by = f"version {kept.training_version} of the training code, after {kept.config.steps} steps"
    return f"{text} The kept run of this baseline, `{kept.run_id}`, reached {number(kept.AP)} ({by})."


def progress_bars() -> Callable[[str, int, int], None]:
    """A `report` for `focalrepro.runs.run`: one plain bar with the remaining time for each phase."""
    bars: dict[str, tqdm] = {}

    def report(phase: str, done: int, total: int) -> None:
        if phase not in bars:
            bars[phase] = bar(total=total, desc=phase, mininterval=2.0, ncols=88, file=sys.stdout)
        bars[phase].update(done - bars[phase].n)
        if done >= total:
            bars[phase].close()

    return report

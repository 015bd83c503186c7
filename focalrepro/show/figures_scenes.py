"""Figures with images in them, and the measured imbalance: scenes, anchors, matches, detections."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector import boxes as box_ops
from focalrepro.detector.anchors import anchor_shapes
from focalrepro.detector.matching import IGNORED, match
from focalrepro.evaluation.precision_recall import Curve
from focalrepro.evaluation.record import Record
from focalrepro.evidence.anchor_statistics import Imbalance
from focalrepro.show.one_run import Look
from focalrepro.show.style import BLUE, DARK, GREY, LINES, ORANGE, SKY, lines, panels, styled
from focalrepro.training.batches import config_anchors

FREE = "synthetic"  # how the names begin of datasets whose pixels are the project's own
TRUTH, FOUND = ORANGE, SKY
UNSHOWN = "Plain ground: the photographs are their authors' and not published here; your own run shows them."
DRAWN = "Drawn: boxes that score at least a third of a detector's best here; of several in one place the best"
LEAST_AP50 = 20  # from which on a curve of precision against recall shows anything
CROWD = 6  # objects beyond which their names hide the picture
Drawn = tuple[Any, str, str]  # a box (x1, y1, x2, y2) in the frame's pixels, its colour, its text
Cell = tuple[int | np.ndarray, str, list[Drawn]]  # an image's row, or a picture; a title; what is drawn on it


@styled
def pictures(
    data: DetectionData, cells: Sequence[Cell], columns: int, show_photos: bool = True, title: str = ""
) -> Figure:
    """Images with boxes on them, line by line; a plain ground in place of photos that must not be shown."""
    height, side = -(-len(cells) // columns), 10.2 / max(columns, 3)
    size = (side * columns, 1.08 * side * height)
    figure, grid = plt.subplots(height, columns, figsize=size, squeeze=False)
    for axes in grid.flat[len(cells) :]:
        axes.set_visible(False)
    shown = show_photos or data.name.startswith(FREE)
    if not shown:
        figure.text(0.5, 0, UNSHOWN, ha="center", va="top", fontsize=9, color=GREY)
    figure.suptitle(fill(title, int(13 * side * columns)), fontsize=10)
    for axes, (picture, about, drawn) in zip(grid.flat, cells, strict=False):
        if not isinstance(picture, np.ndarray):
            picture = np.array(data.images[picture]).transpose(1, 2, 0) if shown else np.full((1, 1, 3), 150)
        axes.imshow(picture, extent=(0, data.frame, data.frame, 0), interpolation="nearest")
        axes.set(xlim=(0, data.frame), ylim=(data.frame, 0), xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.set_title(about, fontsize=10)
        taken: list[np.ndarray] = []
        for box, colour, text in drawn:
            _box(axes, box, colour, 1.0 if len(drawn) > 15 else 1.6)
            if text:
                _label(axes, box, colour, text, data.frame / side, taken)
    return figure


def _box(axes: Axes, box: Sequence[float], colour: str, width: float) -> None:
    x1, y1, x2, y2 = (float(v) for v in box)
    patch = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width)
    patch.set_path_effects([withStroke(linewidth=width + 1.0, foreground="black")])
    axes.add_patch(patch)


def _label(
    axes: Axes, box: Sequence[float], colour: str, text: str, inch: float, taken: list[np.ndarray]
) -> None:
    """Writes a text at a box, within the frame: above it, else below or in it, else further away with a line
    to it; where it hides no other text, or as little as can be.

    inch: so many of the frame's pixels; taken: the places of the texts, [left, top, right, bottom].
    """
    (x1, y1, x2, y2), frame = (float(v) for v in box), axes.get_ylim()[0]  # the y axis points down
    width, height = 0.1 * inch * len(text), 0.19 * inch  # of 10 points
    near = [y1 - 1 - height, y2 + 1, y1 + 1, y2 - 1 - height]
    away = [near[i] + sign * k * height for k in range(1, 20) for i, sign in ((0, -1), (1, 1))]
    tops = [top for top in near + away if 0 <= top <= frame - height] or [0.0]
    lefts = [max(0.0, min(left, frame - width)) for left in (x1, x2 - width)]
    places = [np.array([left, top, left + width, top + height]) for top, left in product(tops, lefts)]
    place = min(places, key=lambda p: sum(map(partial(_common, p), taken)))  # the first of equal ones
    taken.append(place)
    middle = (place[:2] + place[2:]) / 2
    if place[1] not in near:
        end = np.clip(middle, (x1, y1), (x2, y2))
        axes.plot(*zip(middle, end, strict=True), color=colour, linewidth=0.8)
    look = {"ha": "left", "va": "center", "clip_on": True, "color": colour, "fontsize": 10}
    look["bbox"] = {"facecolor": "black", "edgecolor": "none", "alpha": 0.7, "pad": 0.8}
    axes.text(place[0], middle[1], text, **look)


def _common(one: np.ndarray, other: np.ndarray) -> float:
    """The area that two places share."""
    return float((np.minimum(one, other)[2:] - np.maximum(one, other)[:2]).clip(min=0).prod())


def _truth(data: DetectionData, row: int) -> list[Drawn]:
    objects = zip(data.boxes[row], data.labels[row], strict=True)
    return [(box, TRUTH, _name(data, label)) for box, label in objects if label >= 0]


def scenes(data: DetectionData, rows: Sequence[int], show_photos: bool = True) -> Figure:
    """Images of a split, by row, with the boxes and classes of their objects."""
    cells = [(row, f"image {data.image_ids[row]}", _truth(data, row)) for row in rows]
    return pictures(data, cells, min(4, len(rows)), show_photos)


def example(data: DetectionData) -> int:
    """The first image whose largest object is a fifth of the frame's side or more, good to look at."""
    sides = np.sqrt(box_ops.area(torch.from_numpy(data.boxes)).numpy()).max(axis=1, initial=0)
    large = np.flatnonzero(sides >= data.frame / 5)
    return int(large[0]) if len(large) else int(sides.argmax())


def _largest(data: DetectionData, row: int) -> int | None:
    """The index of the image's largest object; None where it has none."""
    if not (data.labels[row] >= 0).any():
        return None
    return int(box_ops.area(torch.from_numpy(data.boxes[row])).argmax())


def anchors_at(data: DetectionData, row: int, config: RunConfig, show_photos: bool = True) -> Figure:
    """Each level's anchors at one place: the cell nearest to the centre of the image's largest object."""
    number, cells = _largest(data, row), []
    box = np.array([0, 0, data.frame, data.frame]) if number is None else data.boxes[row, number]
    for level in config.levels:
        stride = 2**level
        centre = (np.floor((box[:2] + box[2:]) / 2 / stride) + 0.5) * stride
        side = config.anchor_size * stride
        shapes = anchor_shapes(side, config.anchor_scales, config.anchor_ratios).numpy()
        drawn = [((*(centre - shape / 2), *(centre + shape / 2)), SKY, "") for shape in shapes]
        cells.append((row, f"P{level}, stride {stride} px", [*drawn, (box, TRUTH, "")]))
    return pictures(data, cells, len(cells), show_photos)


def matching(data: DetectionData, row: int, config: RunConfig, show_photos: bool = True) -> Figure:
    """The image's largest object with the anchors that learn it, and those too close to count as background:
    at most 60 on each side. Errors: ValueError for an image without an object."""
    grid, number = config_anchors(config), _largest(data, row)
    if number is None:
        raise ValueError(f"image {row} of {data.name} has no object; `example` finds one that has")
    boxes = torch.from_numpy(data.boxes[row : row + 1])
    valid = torch.from_numpy(data.labels[row : row + 1] >= 0)
    thresholds = {"pos_iou": config.pos_iou, "neg_iou": config.neg_iou, "best_iou": config.best_iou}
    picture = None if data.pictures is None else torch.from_numpy(data.pictures[row : row + 1])
    fate = match(grid.boxes, boxes, valid, pictures=picture, **thresholds)[0]
    near = box_ops.pairwise_iou(grid.boxes, boxes[0, valid[0]]).argmax(1) == number
    own, cells = (data.boxes[row, number], TRUTH, data.categories[data.labels[row, number]]), []
    for name, of in (("learn this object", fate == number), ("are ignored", (fate == IGNORED) & near)):
        drawn = [(anchor, SKY, "") for anchor in grid.boxes[of][:60]]
        cells.append((row, f"{int(of.sum())} of {len(grid.boxes):,} anchors {name}", [*drawn, own]))
    return pictures(data, cells, 2, show_photos)


def detections(
    data: DetectionData, records: Mapping[str, Record], images: int = 4, show_photos: bool = True
) -> Figure | None:
    """Truth above, below it what each record's detector found on the same images, of those that records keep:
    what scores a third or more of its best on them, since losses put their scores on different scales.

    None where a record keeps no detections or has other images.
    """
    kept = {name: {e["image_id"]: e for e in r.examples} for name, r in records.items()}
    place = {int(image_id): row for row, image_id in enumerate(data.image_ids)}
    shared = [i for i in place if kept and all(i in of for of in kept.values())]
    objects = {i: int((data.labels[place[i]] >= 0).sum()) for i in shared}
    shared = sorted(shared, key=lambda i: (objects[i] > CROWD, -objects[i]))[:images]
    cells = [(place[i], f"image {i}: truth", _truth(data, place[i])) for i in shared]
    for name, of in kept.items():
        least = max((score for i in shared for score in of[i]["scores"][:1]), default=0.0) / 3
        cells += [(place[i], name, _found(data, place[i], of[i], least)) for i in shared]
    return pictures(data, cells, len(shared), show_photos, DRAWN) if shared else None


def _found(data: DetectionData, row: int, kept: Mapping[str, Any], least: float) -> list[Drawn]:
    """Of a record's detections on an image those that score `least`, ten at most, and of several in one place
    (IoU above .3) the best alone."""
    height, width = 1 / data.scale[row]
    boxes = torch.tensor(kept["boxes"]).view(-1, 4) * torch.tensor([width, height, width, height])
    better = box_ops.pairwise_iou(boxes, boxes).triu(1) > 0.3
    found = zip(boxes, kept["labels"], kept["scores"], better.any(0), strict=True)
    return [
        (box, FOUND, f"{_name(data, label)} {score:.2f}".lstrip())
        for box, label, score, hidden in found
        if score >= least and not hidden
    ][:10]


def _name(data: DetectionData, label: int) -> str:
    """The class; "" where there is only one."""
    return data.categories[label] if len(data.categories) > 1 else ""


def loss_on_image(data: DetectionData, row: int, maps: Mapping[str, Mapping[int, Look]]) -> Figure:
    """Where the classification loss of one image lies, loss by loss (lines) and step by step (columns).

    maps: of `one_run.loss_maps`. Each map is scaled to its own brightest place; boxes are the objects.
    """
    boxes, cells = [(box, SKY, "") for box, *_ in _truth(data, row)], []
    for name, by_step in maps.items():
        for step, look in by_step.items():
            # By a power of .4: else a diffuse loss could not be seen.
            bright = plt.get_cmap("magma")((look.places / max(look.places.max(), 1e-30)) ** 0.4)
            cells.append((bright, f"{name}, step {step}\n{look.on_objects:.0%} on objects' anchors", boxes))
    return pictures(data, cells, len(cells) // len(maps))


@styled
def imbalance(measured: Imbalance) -> Figure:
    """Anchors per level and their fate, how well the anchors cover the objects, and the objects' sizes."""
    levels = {"title": "Anchors by level", "xlabel": "level, smallest anchor", "ylabel": "anchors per image"}
    reach = {"title": "Reach", "xlabel": "IoU with the object's best anchor", "xlim": (0, 1)}
    size = {"title": "Object sizes", "xlabel": "side = √area, px in the frame", "ylabel": "objects"}
    settings = (levels | {"yscale": "log"}, reach | {"ylabel": "objects"}, size)
    figure, (fates, cover, sizes) = panels(*settings, size=(11, 3.7))
    at = np.arange(len(measured.levels))
    for i, (name, colour) in enumerate((("background", GREY), ("ignored", SKY), ("positive", ORANGE))):
        fates.bar(at + 0.27 * (i - 1), measured.levels[name], 0.25, color=colour, label=name)
    fates.set_xticks(at, [f"{level}\n{row.side:g} px" for level, row in measured.levels.iterrows()])
    fates.grid(axis="x", visible=False)
    fates.set_ylim(top=40 * measured.levels["background"].max())
    fates.legend(ncols=3, loc="upper center", columnspacing=0.9, handlelength=1.2)
    cover.hist(measured.best_iou, bins=np.linspace(0, 1, 41), color=BLUE)
    for threshold, line in ((0.4, LINES[2]), (0.5, LINES[1])):
        cover.axvline(threshold, color=DARK, linestyle=line, label=f"IoU {threshold:g}")
    cover.legend(loc="upper left")
    if len(measured.sides):
        low, high = max(measured.sides.min(), 0.5), measured.sides.max()
        sizes.hist(measured.sides, bins=np.geomspace(low, high * 1.001, 30), color=BLUE)
    for i, side in enumerate(measured.anchor_sides):
        sizes.axvline(side, color=ORANGE, linewidth=1, label="" if i else "anchor sizes")
    sizes.set_xscale("log", base=2)
    sizes.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    sizes.set_ylim(top=1.2 * sizes.get_ylim()[1])  # room for the legend
    sizes.legend(loc="upper left")
    return figure


@styled
def precision_recall(curves: Sequence[Curve]) -> Figure | None:
    """Precision against recall of one class at several IoU thresholds, the lowest first; None where AP at
    that is so low that the curves would hug the axes."""
    if curves[0].ap < LEAST_AP50:
        return None
    labels = {"xlabel": "recall: share of the objects that were found", "xlim": (0, 1.02)}
    labels |= {"ylabel": "precision: share of detections that are right", "ylim": (0, 1.05)}
    figure, (axes,) = panels(labels, size=(5.2, 3.8))
    lines(axes, {f"IoU ≥ {curve.iou:g}": (curve.recall, curve.precision) for curve in curves})
    axes.set_title(f"Class “{curves[0].category}”, {curves[0].objects} objects")
    axes.legend()
    return figure

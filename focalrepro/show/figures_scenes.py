"""Figures with images in them, and the measured imbalance: scenes, anchors, matches, detections."""

from collections.abc import Mapping, Sequence

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector import boxes as box_ops
from focalrepro.detector.anchors import anchor_shapes
from focalrepro.detector.matching import IGNORED, match
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.precision_recall import Curve
from focalrepro.evidence.anchor_statistics import Imbalance
from focalrepro.show.style import BLUE, DARK, GREY, LINES, ORANGE, SKY, lines, panels, styled
from focalrepro.training.batches import config_anchors

FREE = ("synthetic",)  # datasets whose pixels are the project's own
OUTLINE = [effects.withStroke(linewidth=3.2, foreground="black")]
TRUTH, FOUND = ORANGE, SKY


def _ground(axes: Axes, data: DetectionData, row: int, show_photos: bool) -> None:
    """The image, or a plain grey ground in its place; the frame's pixels are the axes' units."""
    if show_photos or data.name in FREE:
        picture = np.array(data.images[row]).transpose(1, 2, 0)
    else:
        picture = np.full((data.frame, data.frame, 3), 150, dtype=np.uint8)
    axes.imshow(picture, extent=(0, data.frame, data.frame, 0), interpolation="nearest")
    axes.set(xlim=(0, data.frame), ylim=(data.frame, 0), xticks=[], yticks=[])
    axes.grid(visible=False)


def _box(
    axes: Axes, box: Sequence[float], colour: str, text: str = "", width: float = 1.6, line: str = "-"
) -> None:
    x1, y1, x2, y2 = (float(v) for v in box)
    patch = Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width, linestyle=line
    )
    patch.set_path_effects([effects.withStroke(linewidth=width + 1.0, foreground="black")])
    axes.add_patch(patch)
    if text:
        inside = y1 < 0.1 * axes.get_ylim()[0]  # the y axis points down: its lower limit is the frame's side
        ground = {"facecolor": "black", "edgecolor": "none", "alpha": 0.7, "pad": 0.8}
        axes.text(
            x1, y1 + 1 if inside else y1 - 1, text, va="top" if inside else "bottom", color=colour,
            fontsize=9, bbox=ground, clip_on=True,
        )  # fmt: skip


def _truth(axes: Axes, data: DetectionData, row: int) -> None:
    for box, label in zip(data.boxes[row], data.labels[row], strict=True):
        if label >= 0:
            _box(axes, box, TRUTH, data.categories[label])


@styled
def scenes(data: DetectionData, rows: Sequence[int], show_photos: bool = True) -> Figure:
    """Images of a split, by row, with the boxes and classes of their objects."""
    columns = min(4, len(rows))
    height = -(-len(rows) // columns)
    figure, grid = plt.subplots(height, columns, figsize=(2.5 * columns, 2.65 * height), squeeze=False)
    for axes in grid.flat[len(rows) :]:
        axes.set_visible(False)
    for axes, row in zip(grid.flat, rows, strict=False):
        _ground(axes, data, row, show_photos)
        _truth(axes, data, row)
        axes.set_title(f"image {data.image_ids[row]}", fontsize=9)
    return figure


@styled
def imbalance(measured: Imbalance) -> Figure:
    """Anchors per level and their fate, how well the anchors cover the objects, and the objects' sizes."""
    levels = {"title": "Anchors by level", "xlabel": "level, smallest anchor", "ylabel": "anchors per image"}
    figure, (fates, cover, sizes) = panels(
        levels | {"yscale": "log"},
        {
            "title": "Reach",
            "xlabel": "IoU with the object's best anchor",
            "ylabel": "objects",
            "xlim": (0, 1),
        },
        {"title": "Object sizes", "xlabel": "side = √area, px in the frame", "ylabel": "objects"},
        size=(11, 3.7),
    )
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


def example(data: DetectionData) -> int:
    """The first image whose largest object has a good size to look at, a fifth of the frame's side or
    more."""
    sides = np.sqrt(box_ops.area(torch.from_numpy(data.boxes)).numpy()).max(axis=1, initial=0)
    large = np.flatnonzero(sides >= data.frame / 5)
    return int(large[0]) if len(large) else int(sides.argmax())


def _largest(data: DetectionData, row: int) -> int | None:
    """The index of the image's largest object; None where it has none."""
    if not (data.labels[row] >= 0).any():
        return None
    return int(box_ops.area(torch.from_numpy(data.boxes[row])).argmax())


@styled
def anchors_at(data: DetectionData, row: int, config: RunConfig, show_photos: bool = True) -> Figure:
    """All anchors of one location on each level: the cell nearest to the centre of the image's largest
    object."""
    titles = [{"title": f"P{level}, stride {2**level} px"} for level in config.levels]
    figure, row_of = panels(*titles, size=(2.6 * len(titles), 3.0))
    number = _largest(data, row)
    box = np.array([0, 0, data.frame, data.frame]) if number is None else data.boxes[row, number]
    for axes, level in zip(row_of, config.levels, strict=True):
        stride = 2**level
        cell = (np.floor((box[:2] + box[2:]) / 2 / stride) + 0.5) * stride
        _ground(axes, data, row, show_photos)
        for shape in anchor_shapes(config.anchor_size * stride, config.anchor_scales, config.anchor_ratios):
            half = shape.numpy() / 2
            _box(axes, (*(cell - half), *(cell + half)), SKY, width=1.0)
        axes.plot(*cell, "+", color="white", markersize=7, path_effects=OUTLINE)
        _box(axes, box, TRUTH)
    return figure


MOST = 60


@styled
def matching(data: DetectionData, row: int, config: RunConfig, show_photos: bool = True) -> Figure:
    """The image's largest object with the anchors that learn it, and those too close to count as background:
    at most MOST on each side. Errors: ValueError for an image without an object."""
    grid, number = config_anchors(config), _largest(data, row)
    if number is None:
        raise ValueError(f"image {row} of {data.name} has no object; `example` finds one that has")
    boxes = torch.from_numpy(data.boxes[row : row + 1])
    valid = torch.from_numpy(data.labels[row : row + 1] >= 0)
    thresholds = {"pos_iou": config.pos_iou, "neg_iou": config.neg_iou, "best_iou": config.best_iou}
    fate = match(grid.boxes, boxes, valid, **thresholds)[0]
    near = box_ops.pairwise_iou(grid.boxes, boxes[0, valid[0]]).argmax(1) == number
    fates = {"learn this object": fate == number, "ignored": (fate == IGNORED) & near}
    titles = [
        {"title": f"{int(of.sum())} of {len(grid.boxes):,} anchors: {name}"} for name, of in fates.items()
    ]
    figure, row_of = panels(*titles, size=(7.2, 4.0))
    for axes, chosen in zip(row_of, fates.values(), strict=True):
        _ground(axes, data, row, show_photos)
        for anchor in grid.boxes[chosen][:MOST]:
            _box(axes, anchor, SKY, width=0.9)
        _box(axes, data.boxes[row, number], TRUTH, data.categories[data.labels[row, number]])
    return figure


@styled
def detections(
    data: DetectionData, found: Mapping[str, Detections], rows: Sequence[int], show_photos: bool = True
) -> Figure:
    """The same images in columns: ground truth above, below it the detections of each detector, by its name.

    Class and score of the best 15 of a score of .3 or more; of boxes in the same place (IoU above .6) only
    the best one has its text.
    """
    size = (2.5 * len(rows), 2.65 * (1 + len(found)))
    figure, grid = plt.subplots(1 + len(found), len(rows), figsize=size, squeeze=False)
    for column, row in enumerate(rows):
        for axes in grid[:, column]:
            _ground(axes, data, row, show_photos)
        _truth(grid[0, column], data, row)
        grid[0, column].set_title(f"image {data.image_ids[row]}", fontsize=9)
        for axes, mine in zip(grid[1:, column], found.values(), strict=True):
            _detected(axes, data, mine, row)
    for axes, name in zip(grid[:, 0], ("ground truth", *found), strict=True):
        axes.set_ylabel(name)
    return figure


def _detected(axes: Axes, data: DetectionData, found: Detections, row: int) -> None:
    height, width = data.frame / data.sizes[row]
    mine = np.flatnonzero((found.image_index == row) & (found.scores >= 0.3))
    best = mine[np.argsort(-found.scores[mine], kind="stable")][:15]
    boxes = torch.from_numpy(found.boxes[best] * np.array([width, height, width, height], np.float32))
    overlap = box_ops.pairwise_iou(boxes, boxes).triu(1).amax(0) if len(best) else []
    for i, box, hidden in zip(best, boxes, overlap, strict=True):
        text = f"{data.categories[found.labels[i]]} {found.scores[i]:.2f}"
        _box(axes, box, FOUND, "" if hidden > 0.6 else text)
    if not len(mine):
        place = {"transform": axes.transAxes, "ha": "center", "path_effects": OUTLINE}
        axes.text(0.5, 0.5, "nothing above 0.3", color="white", **place)


@styled
def precision_recall(curves: Sequence[Curve]) -> Figure:
    """Precision against recall of one class at several IoU thresholds."""
    labels = {"xlabel": "recall: share of the objects that were found", "xlim": (0, 1.02)}
    labels |= {"ylabel": "precision: share of detections that are right", "ylim": (0, 1.05)}
    figure, (axes,) = panels(labels, size=(5.2, 3.8))
    lines(axes, {f"IoU ≥ {curve.iou:g}": (curve.recall, curve.precision) for curve in curves})
    axes.set_title(f"Class “{curves[0].category}”, {curves[0].objects} objects")
    axes.legend()
    return figure

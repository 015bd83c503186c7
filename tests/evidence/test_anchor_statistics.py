"""The measured imbalance agrees with counts made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from made_up import study

from focalrepro.config import RunConfig
from focalrepro.evidence.anchor_statistics import divisors, measure, reach, reach_of_rows
from focalrepro.evidence.difference import Evidence
from focalrepro.runs import anchors_per_image, load_splits
from focalrepro.show import figures_results
from focalrepro.study.profiles import PROFILES
from focalrepro.training.batches import config_anchors

CONFIG = RunConfig(
    image_size=64, first_level=3, last_level=4, anchor_size=2.0, anchor_scales=1, anchor_ratios=1
)


def split(boxes):
    """Just enough of a DetectionData: a list of boxes for each image."""
    most = max(1, *(len(b) for b in boxes))
    array, labels = np.zeros((len(boxes), most, 4), np.float32), np.full((len(boxes), most), -1)
    for i, b in enumerate(boxes):
        array[i, : len(b)], labels[i, : len(b)] = np.reshape(b, (-1, 4)), 0
    return SimpleNamespace(boxes=array, labels=labels, pictures=None)


def test_an_object_that_is_an_anchor():
    grid = config_anchors(CONFIG)
    own = grid.boxes[27].numpy()  # inside the image, on P3
    measured = measure(split([[own], []]), CONFIG)
    assert measured.anchors == len(grid.boxes) == 64 + 16
    assert measured.levels["anchors"].tolist() == [64, 16]
    assert measured.best_iou == pytest.approx([1.0])
    assert measured.sides == pytest.approx([16.0])
    assert measured.anchor_sides == (16.0, 32.0)
    # Its four neighbours, half an anchor away, overlap by 1/3: background. Only itself is positive.
    assert measured.levels["positive"].sum() == 0.5
    assert measured.background_per_positive == pytest.approx((2 * 80 - 1) / 1)
    fates = measured.levels[["positive", "ignored", "background"]].sum(axis=1)
    assert fates.tolist() == measured.levels["anchors"].tolist()


def test_anchors_on_padding_are_not_counted():
    """A picture on the upper half of its frame, and one on the whole: three quarters of the anchors."""
    grid = config_anchors(CONFIG)
    boxes = [[grid.boxes[27].numpy()], []]
    data = split(boxes)
    data.pictures = np.array([[0, 0, 64, 32], [0, 0, 64, 64]], np.float32)
    measured = measure(data, CONFIG)
    assert measured.levels["anchors"].tolist() == [48, 12] and measured.anchors == 60
    fates = measured.levels[["positive", "ignored", "background"]].sum(axis=1)
    assert fates.tolist() == measured.levels["anchors"].tolist()
    assert measured.background_per_positive == pytest.approx(40 + 79) and measured.best_iou[0] == 1
    data.pictures[0, 3] = 21  # the anchor's centre, at y = 28, is on the padding now
    assert measure(data, CONFIG).best_iou == pytest.approx([1 / 3], abs=0.01)
    assert anchors_per_image(CONFIG, data) == round((80 + 24 + 4) / 2)
    assert anchors_per_image(CONFIG, split(boxes)) == 80


def test_limit_and_an_empty_split():
    box = [8.0, 8.0, 24.0, 24.0]
    assert measure(split([[box]] * 5), CONFIG, limit=3).images == 3
    empty = measure(split([[], []]), CONFIG)
    assert len(empty.sides) == empty.levels["positive"].sum() == 0
    assert len(empty.best_iou) == 0 and reach(empty.best_iou).isna().all()


def test_what_batches_are_divided_by():
    """Of five batches in an epoch one has the objects, two anchors themselves: each assigned to one."""
    own, far = config_anchors(CONFIG).boxes[[27, 45]].numpy()
    data = split([[], [], [own, far], *[[]] * 7])
    mine = divisors(data, CONFIG.replace(steps=10, batch_size=2))
    n = 2
    assert mine["without objects"] == pytest.approx(80)
    assert mine["50% have at most"] == 0 and mine["95% have at most"] == pytest.approx(n)
    assert mine["weight, the paper"] == pytest.approx((n / 5) * (4 + 1 / n) / 5)
    assert mine["weight, one more for each image"] == pytest.approx((n / 5) * (4 / 2 + 1 / (n + 2)) / 5)
    assert divisors(data, CONFIG.replace(steps=3, batch_size=10))["without objects"] == 0


def test_reach():
    assert reach(np.array([0.3, 0.45, 0.55, 0.9]), (0.4, 0.5)).tolist() == [75.0, 50.0]


def test_reach_is_measured_for_every_row(data_root, tmp_path):
    data, _ = load_splits(PROFILES["smoke"].base)
    frame = reach_of_rows(data, Evidence(study([])))
    assert frame["anchors"].tolist() == [1344 * n for n in (1, 2, 3, 3, 6, 9, 12)]
    assert (frame["reach_40"] >= frame["reach_50"]).all() and frame["reach_50"].between(0, 100).all()
    assert frame["reach_50"].iloc[-1] > frame["reach_50"].iloc[0]
    assert frame["AP"].isna().all() and frame["paper_AP"].notna().all()
    figure = figures_results.reach(frame)
    figure.savefig(tmp_path / "figure.png")
    assert len({axes.get_xlim() for axes in figure.axes}) == 1, "what is compared has one scale"

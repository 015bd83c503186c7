"""The measured imbalance agrees with counts made by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import study

from focalrepro.config import RunConfig
from focalrepro.detector import boxes as box_ops
from focalrepro.evidence.anchor_statistics import (
    best_iou,
    drowning,
    first_loss,
    measure,
    reach,
    reach_of_rows,
)
from focalrepro.evidence.difference import Evidence
from focalrepro.runs import load_splits
from focalrepro.show import figures_speed, sentences, tables
from focalrepro.study.ablations import get_ablation
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
    return SimpleNamespace(boxes=array, labels=labels)


def test_an_object_that_is_an_anchor():
    grid = config_anchors(CONFIG)
    own = grid.boxes[27].numpy()  # inside the image, on P3
    measured = measure(split([[own], []]), CONFIG)
    assert measured.anchors == len(grid.boxes) == 64 + 16
    assert measured.objects == 0.5
    assert measured.levels["anchors"].tolist() == [64, 16]
    assert measured.best_iou == pytest.approx([1.0])
    assert measured.sides == pytest.approx([16.0])
    assert measured.anchor_sides == (16.0, 32.0)
    # Its four neighbours, half an anchor away, overlap by 1/3: background. Only itself is positive.
    assert measured.positive == 0.5
    assert measured.background_per_positive == pytest.approx((2 * 80 - 1) / 1)
    fates = measured.levels[["positive", "ignored", "background"]].sum(axis=1)
    assert fates.tolist() == measured.levels["anchors"].tolist()


def test_limit_and_an_empty_split():
    box = [8.0, 8.0, 24.0, 24.0]
    assert measure(split([[box]] * 5), CONFIG, limit=3).images == 3
    empty = measure(split([[], []]), CONFIG)
    assert empty.objects == empty.positive == 0
    assert len(empty.best_iou) == 0
    assert reach(empty.best_iou)["share, %"].eq(0).all()


def test_reach():
    found = reach(np.array([0.3, 0.45, 0.55, 0.9]), (0.4, 0.5))
    assert found["objects without an anchor"].tolist() == [1, 2]
    assert found["share, %"].tolist() == [25.0, 50.0]


def test_drowning_is_the_loss_times_the_count():
    frame = drowning(1000, 10, 0.01, 0.1, [(0.5, 0.0), (0.25, 2.0)])
    ce, fl = frame.iloc[0], frame.iloc[1]
    assert ce["one background"] == pytest.approx(-0.5 * math.log(0.99))
    assert ce["all objects"] == pytest.approx(-10 * 0.5 * math.log(0.1))
    assert fl["one background"] == pytest.approx(-0.75 * 0.01**2 * math.log(0.99))
    assert fl["objects' share, %"] > ce["objects' share, %"]
    assert isinstance(frame, pd.DataFrame)


def test_first_loss():
    assert first_loss(0.5, 0.5, 0.0, anchors=10, classes=3, positive=2) == pytest.approx(
        30 * 0.5 * math.log(2) / 2
    )
    logits = torch.full((1, 10, 3), math.log(0.01 / 0.99), dtype=torch.float64)
    labels = torch.tensor([[0, 1] + [-1] * 8])
    from focalrepro.losses import focal_terms

    expected = float(focal_terms(logits, labels, 0.25, 2.0).sum()) / 2
    assert first_loss(0.01, 0.25, 2.0, anchors=10, classes=3, positive=2) == pytest.approx(expected)


@pytest.mark.parametrize("profile", ["quick", "coco-cpu"])
def test_best_iou_is_that_of_all_anchors(profile):
    base = PROFILES[profile].base
    rng = np.random.default_rng(0)
    low = rng.uniform(0, base.image_size - 4, (300, 2))
    high = np.minimum(
        low + rng.uniform(3, base.image_size, (300, 2)) ** rng.uniform(0.4, 1, (300, 1)), base.image_size
    )
    boxes = np.concatenate([low, high], 1)
    for row in get_ablation("1c").rows_for(base):
        config = base.replace(**row.changes)
        anchors = config_anchors(config).boxes.double()
        brute = box_ops.pairwise_iou(anchors, torch.from_numpy(boxes)).amax(0).numpy()
        np.testing.assert_allclose(best_iou(boxes, config), brute, atol=1e-5)


def test_reach_is_measured_for_every_row(data_root, tmp_path):
    data, _ = load_splits(PROFILES["smoke"].base)
    frame = reach_of_rows(data, Evidence(study([])))
    assert frame["anchors"].tolist() == [1344 * n for n in (1, 2, 3, 3, 6, 9, 12)]
    assert (frame["reach_40"] >= frame["reach_50"]).all() and frame["reach_50"].between(0, 100).all()
    assert frame["reach_50"].iloc[-1] > frame["reach_50"].iloc[0]
    assert list(tables.reach(frame)["AP"]) == ["–"] * 7
    assert "Too few rows" in sentences.reach(frame) and "in the paper" in sentences.reach(frame)
    figures_speed.reach(frame).savefig(tmp_path / "figure.png")
    frame["AP"] = [20.0, 22, 23, 21, 25, 26, 27]
    assert "with AP here" in sentences.reach(frame)

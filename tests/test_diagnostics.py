"""Loss distributions and calibration, on cases whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.diagnostics import GAMMAS, SHARES, calibration, loss_distribution
from focalrepro.evaluation.match_table import ClassMatches, MatchTable, match_table
from focalrepro.profiles import PROFILES
from focalrepro.runs import load_splits

CONFIG = PROFILES["smoke"].base.replace(precision="fp32")


class Constant(nn.Module):
    """A detector that gives every anchor and class the same logit, but one class of the background more."""

    def __init__(self, logit, hard):
        super().__init__()
        self.logit, self.hard = logit, hard

    def forward(self, images):
        logits = torch.full((len(images), 12_096, 10), self.logit)
        logits[:, :, 0] = self.hard
        return logits, torch.zeros(len(images), 12_096, 4)


def test_equal_losses_lie_on_the_diagonal(data_root):
    _, val = load_splits(CONFIG)
    found = loss_distribution(Constant(-2.0, -2.0), CONFIG, val, torch.device("cpu"), images=2)
    for kind in ("foreground", "background"):
        for gamma in GAMMAS:
            np.testing.assert_allclose(found[kind][f"{gamma:g}"], SHARES, atol=0.02)
    assert found["background"]["windows"] > 200_000 > 1_000 > found["foreground"]["windows"] > 0


def test_gamma_moves_the_loss_to_the_hard_background(data_root):
    _, val = load_splits(CONFIG)
    found = loss_distribution(Constant(-3.0, 3.0), CONFIG, val, torch.device("cpu"), images=2)["background"]
    at = SHARES.index(0.89)  # nine windows in ten are easy
    easy, hard = np.log1p(np.exp(-3.0)), np.log1p(np.exp(3.0))
    for gamma in GAMMAS:
        p = 1 / (1 + np.exp(3.0))
        a, b = p**gamma * easy * 9, (1 - p) ** gamma * hard
        assert found[f"{gamma:g}"][at] == pytest.approx(a / (a + b) * 0.89 / 0.9, rel=0.02, abs=1e-3)


def table(score, right):
    matched = np.zeros((10, len(score)), bool)
    matched[0] = right
    empty = np.zeros_like(matched)
    zeros = np.zeros(len(score), int)
    return MatchTable(
        1, (ClassMatches(zeros, matched, empty, zeros[:0], np.asarray(score, np.float32), zeros),)
    )


def test_calibration_of_a_known_case():
    found = calibration(table([0.95, 0.95, 0.15, 0.15], [True, False, False, False]))
    assert found["count"][9] == 2 and found["right"][9] == 0.5 and found["count"][1] == 2
    assert found["error"] == pytest.approx((0.45 + 0.15) / 2, abs=1e-4)
    assert calibration(table([], []))["error"] is None
    assert calibration(MatchTable(1, ()))["error"] is None


def test_calibration_leaves_out_what_lies_in_a_crowd():
    """One object found, and two detections in a crowd region, which AP does not count either."""
    box = {"image_id": 1, "category_id": 1}
    truth = {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "annotations": [
            box | {"id": 1, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 0},
            box | {"id": 2, "bbox": [50, 50, 40, 40], "area": 1600, "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    found = Detections(
        image_index=np.zeros(3, np.int64),
        boxes=np.array([[0, 0, 20, 20], [55, 55, 65, 65], [70, 70, 80, 80]], np.float32),
        scores=np.array([0.95, 0.85, 0.75], np.float32),
        labels=np.zeros(3, np.int64),
    )
    got = calibration(match_table(truth, np.array([1]), found))
    assert got["count"] == [0] * 9 + [1] and got["right"][9] == 1
    assert got["error"] == pytest.approx(0.05, abs=1e-5)

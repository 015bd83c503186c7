"""The rivals of focal loss against their papers' formulas, written out in numpy and float64."""

import numpy as np
import pytest
import torch

from focalrepro.losses import BACKGROUND, IGNORED, focal_terms
from focalrepro.study.profiles import PROFILES
from focalrepro.training.criteria import LOSSES, box_loss, box_quality, dense_box_loss
from focalrepro.training.dials import Dials
from focalrepro.training.engines import new_step

SMALL = PROFILES["smoke"].base
RNG = np.random.default_rng(0)
LOGITS = torch.from_numpy(RNG.normal(-2, 3, (2, 50, 4)))
LABELS = torch.from_numpy(RNG.choice([0, 1, 2, 3, BACKGROUND, BACKGROUND, BACKGROUND, IGNORED], (2, 50)))
KEPT = (LABELS != IGNORED).numpy()
OBJECT = (LABELS[..., None] == torch.arange(4)).numpy()
P = 1 / (1 + np.exp(-LOGITS.numpy()))
P_T = np.where(OBJECT, P, 1 - P)
ALPHA = np.where(OBJECT, 0.25, 0.75) * KEPT[..., None]


def value(name, quality=None, **fields):
    dials = Dials.of(SMALL.replace(loss=name, **fields))
    dials.quality = quality
    return float(LOSSES[name](LOGITS, LABELS, dials))


def test_asymmetric_has_a_gamma_for_each_kind():
    gamma = np.where(OBJECT, 0.5, 3.0)
    wanted = -(ALPHA * (1 - P_T) ** gamma * np.log(P_T)).sum()
    assert value("asymmetric", gamma=3.0, gamma_object=0.5) == pytest.approx(wanted, rel=1e-10)
    same = focal_terms(LOGITS, LABELS, 0.25, 2.0).sum()
    assert value("asymmetric", gamma=2.0) == pytest.approx(float(same), rel=1e-10)


def test_poly1_adds_the_next_power():
    wanted = (ALPHA * (-((1 - P_T) ** 2) * np.log(P_T) - (1 - P_T) ** 3)).sum()
    assert value("poly1", gamma=2.0, epsilon=-1.0) == pytest.approx(wanted, rel=1e-10)


def test_ghm_is_the_mean_over_regions_of_the_mean_in_each():
    g, terms = (1 - P_T)[KEPT].ravel(), -np.log(P_T)[KEPT].ravel()
    region = np.minimum((g * 30).astype(int), 29)
    means = [terms[region == r].mean() for r in np.unique(region)]
    assert value("ghm") == pytest.approx(np.mean(means), rel=1e-10)


def test_ghm_takes_the_moving_average_of_its_counts_from_its_step(tiny):
    g, terms = (1 - P_T)[KEPT].ravel(), -np.log(P_T)[KEPT].ravel()
    region = np.minimum((g * 30).astype(int), 29)
    average = torch.full((30,), 100.0)
    dials = Dials.of(SMALL.replace(loss="ghm", normalizer="moving"))
    dials.average = average
    for _ in range(2):  # the second divides by what the first has left
        found = LOSSES["ghm"](LOGITS, LABELS, dials)
    counts = np.bincount(region, minlength=30)
    kept = 0.75 * (0.75 * 100 + 0.25 * counts) + 0.25 * counts
    present = np.unique(region)
    assert float(found) == pytest.approx(np.sum(terms / kept[region]) / len(present), rel=1e-6)
    np.testing.assert_allclose(average, kept, rtol=1e-6)
    dials.average = None
    assert float(LOSSES["ghm"](LOGITS, LABELS, dials)) == pytest.approx(value("ghm"), rel=1e-12)

    images, views = torch.arange(4), torch.zeros(4, dtype=torch.long)
    losses = {}
    for normalizer in ("positives", "moving"):
        step = new_step(SMALL.replace(loss="ghm", normalizer=normalizer), tiny[0], torch.device("cpu"))
        step(images, views, 0.0)
        losses[normalizer] = float(step.losses[1])
        assert (float(step.average.sum()) > 30) == (normalizer == "moving"), "a step keeps it"
    # it begins at 0, so the first counts weigh a quarter
    assert losses["moving"] == pytest.approx(4 * losses["positives"], rel=1e-3)


def test_quality_has_soft_targets_where_an_object_is():
    iou = RNG.random((2, 50))
    y = np.where(OBJECT, iou[..., None], 0.0)
    terms = np.abs(y - P) ** 2 * -(y * np.log(P) + (1 - y) * np.log(1 - P))
    got = value("quality", torch.from_numpy(iou), gamma=2.0)
    assert got == pytest.approx((terms * KEPT[..., None]).sum(), rel=1e-9)


def test_quality_of_boxes_is_their_iou():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    targets = torch.tensor([[[0.0, 0, 10, 10], [5, 0, 15, 10], [0, 0, 1, 1]]])
    positive = torch.tensor([[True, True, False]])
    got = box_quality(torch.zeros(1, 3, 4), anchors, targets, positive)
    assert got.tolist() == [pytest.approx([1, 1 / 3, 0])]


def test_picking_positive_anchors_changes_no_box_loss():
    torch.manual_seed(0)
    corners = torch.rand(2, 30, 2) * 50
    targets = torch.cat([corners, corners + 5 + torch.rand(2, 30, 2) * 20], -1)
    anchors, positive = targets[0] + 2, torch.rand(2, 30) < 0.2
    offsets = torch.randn(2, 30, 4) * 0.2
    picked = box_loss(offsets, anchors, targets, positive, SMALL)
    dense = dense_box_loss(offsets, anchors.expand_as(targets), targets, positive, SMALL)
    torch.testing.assert_close(picked, dense)
    assert picked > 0


def test_a_guided_class_loss_has_the_size_of_the_box_loss(tiny):
    config = SMALL.replace(guided=True, gamma=0.0, alpha=0.5, prior=0.0, precision="fp32")
    step = new_step(config, tiny[0], torch.device("cpu"))
    share = step.source.positives / (12_096 * len(tiny[0].categories))
    bias = step.model.class_head.layers[-1].bias
    assert torch.sigmoid(bias).mean().item() == pytest.approx(share, rel=1e-4)
    step(torch.arange(4), torch.zeros(4, dtype=torch.long), 0.0)
    assert float(step.losses[1]) == pytest.approx(float(step.losses[2]), rel=1e-4)


def test_ghm_counts_beyond_what_float32_can():
    logits = torch.zeros(2**24 + 2**22, 1)  # all in one region, so its mean is the loss of each
    found = LOSSES["ghm"](logits, torch.full((len(logits),), BACKGROUND), Dials.of(SMALL))
    assert found.item() == pytest.approx(np.log(2), rel=1e-4)

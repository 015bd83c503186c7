"""The losses beside focal loss, what they are divided by, and the rows that use them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import nms

from focalrepro.config import RunConfig
from focalrepro.losses import BACKGROUND, IGNORED, focal_terms
from focalrepro.study.ablations import ABLATIONS, plan
from focalrepro.study.profiles import PROFILES
from focalrepro.training import mining as ohem
from focalrepro.training.batches import TrainData, batches
from focalrepro.training.criteria import LOSSES, focal_star, hinge
from focalrepro.training.dials import Dials
from focalrepro.training.loop import train

SMALL = PROFILES["smoke"].base.replace(precision="fp32")


def test_focal_star_is_the_papers_formula():
    logits = torch.tensor([[[1.5, -0.5]]], dtype=torch.float64)
    labels = torch.tensor([[0]])
    sigma = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    wanted = -0.25 * math.log(sigma(2 * 1.5 + 1)) / 2 - 0.75 * math.log(sigma(2 * 0.5 + 1)) / 2
    config = SMALL.replace(loss="focal_star", gamma=2.0, beta=1.0, alpha=0.25)
    assert float(focal_star(logits, labels, Dials.of(config))) == pytest.approx(wanted, rel=1e-12)


def test_focal_star_with_gamma_1_and_beta_0_is_cross_entropy():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 9, 4), torch.randint(-2, 4, (2, 9))
    star = focal_star(logits, labels, Dials.of(SMALL.replace(loss="focal_star", gamma=1.0, alpha=0.4)))
    torch.testing.assert_close(star, focal_terms(logits, labels, 0.4, 0.0).sum())
    with pytest.raises(ValueError, match="gamma is 0"):
        SMALL.replace(loss="focal_star", gamma=0.0)


def test_hinge_is_zero_beyond_its_margin_and_linear_below():
    config = SMALL.replace(loss="hinge", alpha=0.5)
    at = lambda p: torch.tensor([[[math.log(p / (1 - p))]]], dtype=torch.float64)  # noqa: E731
    assert float(hinge(at(0.6), torch.tensor([[0]]), Dials.of(config))) == 0
    assert float(hinge(at(0.2), torch.tensor([[0]]), Dials.of(config))) == pytest.approx(0.5 * 0.3)
    assert float(hinge(at(0.2), torch.tensor([[BACKGROUND]]), Dials.of(config))) == 0
    assert float(hinge(at(0.9), torch.tensor([[IGNORED]]), Dials.of(config))) == 0


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_are_right(name):
    torch.manual_seed(1)
    config = SMALL.replace(loss=name, ohem_batch=16, image_size=32, first_level=3, last_level=4)
    count = len(ohem._anchor_boxes(config, torch.device("cpu")))
    logits = torch.randn(1, count, 2, dtype=torch.float64).requires_grad_()
    labels = torch.randint(-2, 2, (1, count))
    dials = Dials.of(config)
    dials.quality = torch.rand(1, count, dtype=torch.float64)
    LOSSES[name](logits, labels, dials).backward()
    way = torch.randn_like(logits)
    step = 1e-6
    with torch.no_grad():
        high, low = (float(LOSSES[name](logits + s * step * way, labels, dials)) for s in (1, -1))
    assert float((logits.grad * way).sum()) == pytest.approx((high - low) / (2 * step), rel=1e-4, abs=1e-4)


def test_ohem_keeps_the_hardest_anchors_after_suppression():
    config = SMALL.replace(
        loss="ohem", image_size=64, first_level=4, last_level=4, ohem_batch=5, ohem_nms=1.0
    )
    config = config.replace(anchor_scales=1, anchor_ratios=1)
    count = 16
    labels = torch.full((1, count), BACKGROUND)
    logits = torch.linspace(-5, 3, count).view(1, count, 1)
    wanted = F.softplus(logits[0, -5:, 0]).sum()
    torch.testing.assert_close(ohem.ohem(logits, labels, Dials.of(config)), wanted)
    labels[0, -1] = IGNORED
    torch.testing.assert_close(
        ohem.ohem(logits, labels, Dials.of(config)), F.softplus(logits[0, -6:-1, 0]).sum()
    )
    # Anchors of 40 px every 16 px: at IoU above .1 only those far apart survive.
    spread = ohem.ohem(logits, torch.full((1, count), BACKGROUND), Dials.of(config.replace(ohem_nms=0.1)))
    assert float(spread) < float(wanted)


@pytest.mark.parametrize("ratio", [0.0, 3.0])
@pytest.mark.parametrize("overlap", [0.3, 0.7])
def test_ohem_chooses_as_if_it_had_seen_all_candidates_at_once(monkeypatch, overlap, ratio):
    config = SMALL.replace(
        loss="ohem",
        image_size=64,
        first_level=3,
        last_level=4,
        ohem_batch=12,
        ohem_nms=overlap,
        ohem_ratio=ratio,
    )
    boxes = ohem._anchor_boxes(config, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    loss, draw = (torch.rand(len(boxes), generator=generator) for _ in "ab")
    label = torch.where(draw < 0.05, 0, torch.where(draw < 0.1, IGNORED, BACKGROUND))
    monkeypatch.setattr(ohem, "CANDIDATES", len(boxes))
    monkeypatch.setattr(ohem, "CANDIDATES_WITH_RATIO", len(boxes))
    order = loss.argsort(descending=True)
    kept = order[nms(boxes[order], loss[order], overlap)]
    kept = kept[label[kept] != IGNORED]
    if ratio:
        positive = kept[label[kept] >= 0][:3]
        kept = torch.cat([positive, kept[label[kept] == BACKGROUND][: 3 * len(positive)]])
    torch.testing.assert_close(ohem.choose(loss, label, boxes, config), kept[:12])


def test_the_suppression_is_among_the_boxes_that_are_given():
    """And not among the anchors of the configuration, which an earlier call's overlaps might stand for."""
    loss, background = torch.arange(6.0).flip(0), torch.full((6,), BACKGROUND)
    corner = torch.tensor([0, 0, 1, 50, 50, 100.0])[:, None].expand(6, 2)
    boxes = torch.cat([corner, corner + 20], dim=1)
    config = SMALL.replace(loss="ohem", ohem_nms=0.5)
    assert ohem.choose(loss, background, boxes, config).tolist() == [0, 3, 5]
    assert ohem.choose(loss, background, boxes + 30 * torch.arange(6)[:, None], config).tolist() == [
        *range(6)
    ]


def test_ohem_with_a_ratio_takes_three_negatives_for_each_positive():
    config = SMALL.replace(
        loss="ohem", image_size=64, first_level=4, last_level=4, ohem_nms=1.0, ohem_ratio=3.0
    )
    config = config.replace(anchor_scales=1, anchor_ratios=1, ohem_batch=16)
    logits = torch.zeros(1, 16, 1)
    labels = torch.full((1, 16), BACKGROUND)
    labels[0, :2] = 0
    assert float(ohem.ohem(logits, labels, Dials.of(config))) == pytest.approx(8 * math.log(2), rel=1e-6)


def test_hard_negatives_keeps_every_positive_and_the_hardest_three_for_each():
    config = SMALL.replace(loss="hard_negatives", ohem_ratio=3.0)
    logits = torch.tensor([-9.0, -9, 2, 1, 0, -1, -2, 5]).view(1, 8, 1)
    labels = torch.tensor(
        [[0, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND, IGNORED]]
    )
    wanted = F.softplus(torch.tensor([9.0, 2, 1, 0])).sum()
    torch.testing.assert_close(ohem.hard_negatives(logits, labels, Dials.of(config)), wanted)


@pytest.mark.parametrize("name", ["ohem", "hard_negatives"])
def test_an_image_without_positives_keeps_the_ratios_negatives(name):
    config = SMALL.replace(
        loss=name, image_size=64, first_level=4, last_level=4, ohem_nms=1.0, ohem_ratio=3.0
    )
    config = config.replace(anchor_scales=1, anchor_ratios=1)
    labels = torch.full((1, 16), BACKGROUND)
    assert float(LOSSES[name](torch.zeros(1, 16, 1), labels, Dials.of(config))) == pytest.approx(
        3 * math.log(2), rel=1e-6
    )


def class_losses(normalizer, data):
    # γ = 0, so that the background's share, which differs between images, counts
    config = SMALL.replace(normalizer=normalizer, steps=1, warmup=0, gamma=0.0, alpha=0.5)
    return train(config, data, torch.device("cpu")).history["class_loss"][0], config


def test_what_the_loss_is_divided_by(data_root):
    from focalrepro.runs import load_splits

    data, _ = load_splits(SMALL)
    source = TrainData(SMALL, data, torch.device("cpu"))
    index, flips = batches(len(source), SMALL.replace(steps=1))
    _, labels, _, positive = source.batch(index[0], flips[0])
    found = {n: class_losses(n, data)[0] for n in ("positives", "plus_images", "anchors", "moving", "image")}
    total = found["positives"] * int(positive.sum())
    assert found["plus_images"] == pytest.approx(total / (int(positive.sum()) + len(labels)), rel=1e-3)
    assert found["anchors"] == pytest.approx(total / labels.numel(), rel=1e-3)
    assert found["moving"] == pytest.approx(total / (90 + 0.1 * int(positive.sum())), rel=1e-3)
    assert found["image"] != pytest.approx(found["positives"], rel=1e-3)


def test_a_batch_without_an_object_is_divided_by_its_images(data_root):
    from dataclasses import replace

    from focalrepro.runs import load_splits

    data, _ = load_splits(SMALL)
    empty = replace(data, labels=data.labels * 0 - 1, digest="empty")
    alone, more = (class_losses(n, empty)[0] for n in ("positives", "plus_images"))
    assert more == pytest.approx(alone / SMALL.batch_size, rel=1e-3)


def test_a_part_of_the_images_is_the_same_part_for_every_seed():
    part = SMALL.replace(train_fraction=0.25, steps=20, batch_size=4)
    seen = [set(batches(40, part.replace(seed=seed))[0].flatten().tolist()) for seed in (0, 1)]
    assert seen[0] == seen[1] and len(seen[0]) == 10


# How the names of their datasets begin.
ONLY_OVER = {
    "imbalance": "synthetic-",
    "imbalance-steady": "synthetic-",
    "divisor-images": "synthetic-",
    "lr-rarity": "synthetic-",
    "rarity-rate": "synthetic-",
    "lr-sgd": "synthetic-",
    "steady": "synthetic-",
    "level": "synthetic-",
    "sgd-rate": "synthetic-",
    "box_weight-edge": "synthetic-",
    "lr-alpha": "synthetic-",
    "alpha-rate": "synthetic-",
    "alpha-edge": "synthetic-",
    "lr-box_weight": "synthetic-",
    "classes": "coco256",
    "ohem-batch": "coco256",
    "strongest-box_weight": "coco256",
}


def test_every_row_of_every_ablation_is_a_valid_config():
    for name, ablation in ABLATIONS.items():
        for profile in PROFILES.values():
            configs, rows = ablation.configs(profile.base, [0]), ablation.rows_for(profile.base)
            assert len(configs) == len(rows), name
            assert bool(rows) == profile.base.dataset.startswith(ONLY_OVER.get(name, "")), name
            assert all(c.loss in LOSSES for c in configs.values())


def test_rows_that_are_the_same_config_are_trained_once():
    planned = plan(PROFILES["quick"], list(ABLATIONS), 1)
    shared = next(p for p in planned if p.config == PROFILES["quick"].base)
    assert {name for name, _ in shared.wanted_by} >= {
        "1b",
        "grid",
        "prior",
        "1c",
        "1d",
        "3",
        "normalizer",
        "data",
    }
    assert len({p.config for p in planned}) == len(planned)


def test_an_unknown_normalizer_is_refused():
    with pytest.raises(ValueError, match="normalizer"):
        RunConfig(normalizer="mean")

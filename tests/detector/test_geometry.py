"""Boxes, anchors and matching: the paper's numbers,
and torchvision's implementation where definitions agree.
"""

import math

import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

from focalrepro.detector import boxes as box_ops
from focalrepro.detector import matching
from focalrepro.detector.anchors import anchor_shapes, make_anchors
from focalrepro.detector.matching import BACKGROUND, IGNORED, match, match_dataset


def random_boxes(count, frame=128.0, seed=0, smallest=4.0):
    generator = torch.Generator().manual_seed(seed)
    size = smallest + torch.rand(count, 2, generator=generator) * (frame / 2 - smallest)
    corner = torch.rand(count, 2, generator=generator) * (frame - size)
    return torch.cat([corner, corner + size], dim=-1)


# ---- boxes


def test_decode_inverts_encode():
    anchors, boxes = random_boxes(500, seed=1), random_boxes(500, seed=2)
    torch.testing.assert_close(
        box_ops.decode(box_ops.encode(boxes, anchors), anchors), boxes, rtol=1e-5, atol=1e-4
    )
    assert torch.equal(box_ops.encode(anchors, anchors), torch.zeros(500, 4))


def test_offsets_are_those_of_torchvision():
    anchors, boxes = random_boxes(500, seed=3), random_boxes(500, seed=4)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    offsets = box_ops.encode(boxes, anchors)
    torch.testing.assert_close(offsets, coder.encode_single(boxes, anchors), rtol=1e-5, atol=1e-5)
    wild = torch.randn(500, 4, generator=torch.Generator().manual_seed(5)) * 5  # some scales beyond the clamp
    assert (wild[:, 2:] > box_ops.MAX_LOG_SCALE).any()
    theirs = coder.decode_single(wild, anchors)
    torch.testing.assert_close(box_ops.decode(wild, anchors), theirs, rtol=1e-5, atol=1e-3)


def test_iou_equals_torchvision():
    a, b = random_boxes(200, seed=6), random_boxes(90, seed=7)
    torch.testing.assert_close(box_ops.pairwise_iou(a, b), box_iou(a, b), rtol=1e-6, atol=0)
    batched = box_ops.pairwise_iou(a, torch.stack([b, b.flip(0)]))
    assert torch.equal(batched[1], box_ops.pairwise_iou(a, b.flip(0)))
    one = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    other = torch.tensor(
        [[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 4.0, 2.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0]]
    )
    assert box_ops.pairwise_iou(one, other).tolist() == [[pytest.approx(1 / 3), 0.0, 0.0, 1.0]]


# ---- anchors


def test_the_papers_anchors():
    """Section 4: 32² on P3 to 512² on P7, scales 2^0, 2^1/3, 2^2/3, ratios 1:2, 1:1, 2:1."""
    grid = make_anchors(256, (3, 4, 5, 6, 7))
    assert grid.shapes == 9
    assert grid.per_level == tuple(9 * (256 // 2**level) ** 2 for level in (3, 4, 5, 6, 7))
    assert sum(grid.per_level) == len(grid.boxes) == 12_276
    size = grid.boxes[:, 2:] - grid.boxes[:, :2]
    for level, anchors in zip(grid.levels, size.split(grid.per_level), strict=True):
        base = 2 ** (level + 2)
        assert base == {3: 32, 4: 64, 5: 128, 6: 256, 7: 512}[level]
        expected = {
            (round(base * s / math.sqrt(r), 2), round(base * s * math.sqrt(r), 2))
            for s in (1, 2 ** (1 / 3), 2 ** (2 / 3))
            for r in (0.5, 1, 2)
        }
        seen = {(round(w, 2), round(h, 2)) for w, h in anchors[:9].double().tolist()}
        assert all(min(math.dist(e, s) for s in seen) < 0.02 for e in expected) and len(seen) == 9
        areas = (anchors[:9].prod(dim=1) / base**2).tolist()
        assert areas == pytest.approx([1.0] * 3 + [2 ** (2 / 3)] * 3 + [2 ** (4 / 3)] * 3, rel=1e-4)
        torch.testing.assert_close(anchors, anchors[:9].repeat(len(anchors) // 9, 1), rtol=0, atol=1e-3)


def test_centres_lie_in_their_cells_row_by_row():
    grid = make_anchors(64, (3, 4), scales=2, ratios=1)
    centers = (grid.boxes[:, :2] + grid.boxes[:, 2:]) / 2
    fine = centers[: grid.per_level[0]].reshape(8, 8, 2, 2)
    assert fine[0, 0].tolist() == [[4.0, 4.0]] * 2
    assert fine[2, 5].tolist() == [[5 * 8 + 4.0, 2 * 8 + 4.0]] * 2, "x runs along a row"
    assert centers[grid.per_level[0]].tolist() == [8.0, 8.0]


def test_shapes_equal_torchvisions_before_it_rounds_them():
    scales = [32.0, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)]
    theirs = AnchorGenerator().generate_anchors(scales, [0.5, 1.0, 2.0])  # ratio-major, edges rounded
    ours = anchor_shapes(32.0, 3, 3).reshape(3, 3, 2).transpose(0, 1).reshape(9, 2)
    assert torch.equal((ours / 2).round(), theirs[:, 2:])
    assert torch.equal((-ours / 2).round(), theirs[:, :2])


@pytest.mark.parametrize(("scales", "ratios"), [(1, 1), (2, 1), (3, 1), (1, 3), (2, 3), (3, 3), (4, 3)])
def test_the_grids_of_table_1c(scales, ratios):
    shapes = anchor_shapes(32.0, scales, ratios)
    assert shapes.shape == (scales * ratios, 2)
    sides = shapes.prod(dim=1).sqrt().reshape(scales, ratios)
    expected = [32 * 2 ** (k / scales) for k in range(scales)]
    torch.testing.assert_close(
        sides, torch.tensor(expected).unsqueeze(1).expand(-1, ratios), rtol=1e-6, atol=0
    )


def test_levels_round_up_as_convolutions_do():
    assert make_anchors(120, (3, 4, 5), scales=1, ratios=1).per_level == (225, 64, 16)


def test_anchor_errors():
    with pytest.raises(ValueError, match="image_size 100 is not a multiple of the stride 8 of P3"):
        make_anchors(100, (3, 4))
    with pytest.raises(ValueError, match="anchor_ratios is 2"):
        make_anchors(128, (3, 4), ratios=2)


# ---- matching


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_match_equals_torchvisions_matcher(seed, low_quality):
    anchors = make_anchors(128, (3, 4, 5), size=3.0).boxes
    boxes = random_boxes(12, seed=20 + seed, smallest=6.0)
    iou = box_iou(boxes, anchors)
    theirs = Matcher(0.5, 0.4, allow_low_quality_matches=low_quality)(iou)
    ours = match(
        anchors, boxes[None], torch.ones(1, 12, dtype=torch.bool), best_iou=0.0 if low_quality else 1.1
    )[0]
    ours = ours.long()
    assert {BACKGROUND, IGNORED} <= set(ours.unique().tolist())
    assert torch.equal(ours.clamp(max=0), theirs.clamp(max=0)), (
        "objects, background and ignored are the same anchors"
    )
    other = (ours != theirs).nonzero().squeeze(1)
    assert low_quality or not len(other)
    # The one difference: an object's best anchor is that object's here, the better-fitting neighbour's there.
    for anchor in other.tolist():
        assert iou[ours[anchor], anchor] == iou[ours[anchor]].max()
    assert len(other) < 12


def test_thresholds():
    """Squares of 10 px side, shifted by d: IoU = (10 - d) / (10 + d)."""
    anchors = torch.tensor([[d, 0.0, d + 10.0, 10.0] for d in (0.0, 3.3, 3.4, 4.2, 4.4, 10.0)])
    boxes, valid = torch.tensor([[[0.0, 0.0, 10.0, 10.0]]]), torch.tensor([[True]])
    assert match(anchors, boxes, valid).tolist() == [[0, 0, IGNORED, IGNORED, BACKGROUND, BACKGROUND]]
    strict = match(anchors, boxes, valid, pos_iou=0.6, neg_iou=0.5)
    assert strict.tolist() == [[0, IGNORED, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND]]


def test_an_objects_best_anchor_down_to_the_floor():
    anchors = torch.tensor([[4.0, 0.0, 14.0, 10.0], [5.0, 0.0, 15.0, 10.0]])
    boxes, valid = torch.tensor([[[0.0, 0.0, 10.0, 10.0]]]), torch.tensor([[True]])
    assert match(anchors, boxes, valid, best_iou=0.4).tolist() == [[0, BACKGROUND]]  # best IoU is 6/14 = .43
    assert match(anchors, boxes, valid, best_iou=0.45).tolist() == [[IGNORED, BACKGROUND]]
    far = anchors[1:]  # IoU 1/3, below neg_iou
    assert match(far, boxes, valid, best_iou=0.3).tolist() == [[0]]
    assert match(far, boxes, valid, best_iou=0.4).tolist() == [[BACKGROUND]]


def test_an_anchor_wanted_twice_goes_to_the_better_fit():
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = torch.tensor([[[3.0, 0.0, 13.0, 10.0], [1.0, 0.0, 11.0, 10.0]]])
    assert match(anchors, boxes, torch.ones(1, 2, dtype=torch.bool)).tolist() == [[1]]


def test_an_object_that_no_anchor_touches_takes_none():
    anchors = make_anchors(64, (3,)).boxes
    boxes = torch.tensor([[[500.0, 500.0, 510.0, 510.0], [10.0, 10.0, 10.0, 10.0]]])
    result = match(anchors, boxes, torch.ones(1, 2, dtype=torch.bool), best_iou=0.0)
    assert (result == BACKGROUND).all()


def dataset(images=11, most=5, seed=30):
    """Boxes [N, M, 4] and labels [N, M] of images with 0 to M objects, padded."""
    rng = np.random.default_rng(seed)
    boxes, labels = np.zeros((images, most, 4), np.float32), np.full((images, most), -1, np.int64)
    for i in range(images):
        count = i % (most + 1)
        boxes[i, :count] = random_boxes(count, seed=seed + i).numpy()
        labels[i, :count] = rng.integers(0, 3, count)
    return boxes, labels


def both_ways(anchors, boxes, labels, *thresholds):
    """Matches of images as they are, and mirrored, [2, N, A]."""
    mirrored = np.where(
        boxes.any(-1, keepdims=True), boxes[..., [2, 1, 0, 3]] * [-1, 1, -1, 1] + [128, 0, 128, 0], 0
    )
    mirrored = mirrored.astype(np.float32)
    views = (
        match_dataset(anchors, b, labels, torch.device("cpu"), None, *thresholds) for b in (boxes, mirrored)
    )
    return torch.stack(list(views))


@pytest.mark.parametrize("pairs", [matching.PAIRS_AT_ONCE, 5000])
def test_match_dataset_is_match_image_by_image(pairs, monkeypatch):
    monkeypatch.setattr(matching, "PAIRS_AT_ONCE", pairs)  # the second: some images at a time, then one
    boxes, labels = dataset()
    anchors = make_anchors(128, (3, 4, 5), size=3.0).boxes
    thresholds = (0.5, 0.4, 0.3)
    result = both_ways(anchors, boxes, labels, *thresholds)
    assert result.shape == (2, 11, len(anchors)) and result.dtype == torch.int16
    for i in range(len(boxes)):
        count = int((labels[i] >= 0).sum())
        own = torch.from_numpy(boxes[i, :count])[None]
        mirrored = own.clone()
        mirrored[..., 0], mirrored[..., 2] = 128 - own[..., 2], 128 - own[..., 0]
        for flip, b in enumerate((own, mirrored)):
            if count == 0:
                assert (result[flip, i] == BACKGROUND).all()
                continue
            single = match(anchors, b, torch.ones(1, count, dtype=torch.bool), *thresholds)[0]
            assert torch.equal(result[flip, i], single)
    assert (result[0] != result[1]).any()


def test_matches_never_point_at_padding():
    boxes, labels = dataset(seed=50)
    anchors = make_anchors(128, (3, 4, 5), size=3.0).boxes
    result = both_ways(anchors, boxes, labels, 0.5, 0.4, 0.0)
    count = torch.from_numpy((labels >= 0).sum(1))
    assert (result.amax(dim=2) < count).all()
    for i, n in enumerate(count.tolist()):
        assert set(range(n)) <= set(result[0, i].tolist()), "with no floor every object has an anchor"


def test_mirrored_grid_gives_mirrored_matches():
    """The grid is symmetric, so the match of the mirrored image is the mirrored match."""
    boxes, labels = dataset(seed=70)
    grid = make_anchors(128, (3,), size=3.0)
    result = both_ways(grid.boxes, boxes, labels)
    rows = result.view(2, len(boxes), 16, 16, 9)
    assert (rows[0] >= 0).any()
    same = (rows[1] == rows[0].flip(2)).float().mean()
    assert same > 0.999, "apart from ties of floating-point IoUs"

"""Suppression that begins with few candidates keeps what suppression of all of them does."""

import pytest
import torch
from torchvision.ops import batched_nms

from focalrepro.evaluation.detect import FIRST, candidates, select, suppress, without_classes
from focalrepro.study.profiles import PROFILES
from focalrepro.training.batches import config_anchors

CONFIG = PROFILES["smoke"].base.replace(score_threshold=0.0)
GRID = config_anchors(CONFIG)


def outputs(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(GRID.boxes), 10, generator=generator) * 2 - 4
    return logits, torch.randn(len(GRID.boxes), 4, generator=generator) * 0.2


@pytest.mark.parametrize("most", [5, 100, 1000])
@pytest.mark.parametrize("iou", [0.05, 0.5])
def test_few_candidates_first_changes_nothing(most, iou):
    found = candidates(*outputs(0), GRID, CONFIG)
    boxes, scores, labels = found
    assert len(boxes) == 3000 > FIRST  # the topk of each of three levels
    assert (scores[:-1] >= scores[1:]).all()
    whole = batched_nms(boxes, scores, labels, iou)[:most]
    kept = suppress(found, iou, most)
    for mine, all_at_once in zip(kept, found, strict=True):
        assert torch.equal(mine, all_at_once[whole])


def test_a_threshold_keeps_the_first_of_what_no_threshold_keeps():
    logits, offsets = outputs(1)
    free = select(logits, offsets, GRID, CONFIG)
    cut = select(logits, offsets, GRID, CONFIG.replace(score_threshold=0.95))
    count = int((free[1] > 0.95).sum())
    assert 0 < count == len(cut[1]) < len(free[1]) == 100
    for mine, all_of_them in zip(cut, free, strict=True):
        torch.testing.assert_close(
            mine, all_of_them[:count]
        )  # a sigmoid differs in its last bit by its place


def test_merged_classes_do_not_overlap_whatever_they_were():
    found = candidates(*outputs(2), GRID, CONFIG)
    boxes, scores, labels = without_classes(found, CONFIG)
    assert len(boxes) == 100 and not labels.any() and scores[0] == found[1][0]
    assert len(batched_nms(boxes, scores, torch.zeros(100), CONFIG.nms)) == 100

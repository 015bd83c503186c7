"""What the notes of the ablations say of the grids of anchors."""

import torch
from torchvision.ops import box_iou

from focalrepro.detector.anchors import make_anchors
from focalrepro.study.ablations import ABLATIONS
from focalrepro.study.profiles import get_profile


def test_the_neighbours_that_the_notes_count_are_those_of_the_grids():
    def neighbours(*grid):
        boxes = make_anchors(*grid).boxes
        some = torch.arange(0, len(boxes), 1 + len(boxes) // 1000)  # a square of all takes gigabytes
        iou = box_iou(boxes[some], boxes)
        return lambda over: float((iou > over).sum(1).float().mean()) - 1

    embedded, coco, paper = (
        neighbours(96, (2, 3, 4), 2.5),
        neighbours(256, (3, 4, 5, 6), 2.0),
        neighbours(512, (3, 4, 5, 6, 7)),
    )
    for profile, grid in (("full-quick", (96, (2, 3, 4), 2.5)), ("coco-cpu", (256, (3, 4, 5, 6), 2.0))):
        base = get_profile(profile).base
        assert (base.image_size, base.levels, base.anchor_size) == grid
    assert embedded(0.7) == coco(0.7) == 0
    assert [round(embedded(over)) for over in (0.6, 0.5, 0.4, 0.3)] == [2, 11, 20, 61]
    assert [round(coco(over)) for over in (0.5, 0.35)] == [7, 24]
    assert (round(paper(0.5)), round(paper(0.7), 1)) == (28, 1.3)
    assert "7 others on COCO's images and 11 on the embedded data's" in ABLATIONS["1d"].note
    assert "2 at 0.6, 11 at 0.5, 20 at 0.4, 61 at 0.3;" in ABLATIONS["ohem-nms"].note
    assert "on COCO none at 0.7, 7 at 0.5, 24 at 0.35;" in ABLATIONS["ohem-nms"].note
    assert all("1.3" in ABLATIONS[name].note and "28" in ABLATIONS[name].note for name in ("1d", "ohem-nms"))

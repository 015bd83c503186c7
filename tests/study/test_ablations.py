"""Which rows an ablation has over which baseline, and what its note says of the grids of anchors."""

import pytest
import torch
from torchvision.ops import box_iou

from focalrepro.detector.anchors import make_anchors
from focalrepro.evidence.claims import CLAIMS
from focalrepro.study import ablations as module
from focalrepro.study.ablations import ABLATIONS, Ablation, plan
from focalrepro.study.profiles import PROFILES, get_profile, own_profile
from focalrepro.study.rows import Row


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


def test_a_baseline_that_some_rows_do_not_suit_has_the_others(monkeypatch):
    base = PROFILES["coco-cpu"].base
    ours = {(p.name, n): a.rows_for(p.base) for p in PROFILES.values() for n, a in ABLATIONS.items()}
    monkeypatch.setattr(module, "_possible", lambda *_: True)
    for (profile, name), rows in ours.items():  # none of ours is such a one: a slip in the file is no gap
        assert rows == module._built_in(name).rows_for(PROFILES[profile].base), (profile, name)
    monkeypatch.undo()
    each = {row.label for row in ABLATIONS["rivals"].rows_for(base.replace(normalizer="image"))}
    assert {row.label for row in ABLATIONS["rivals"].rows_for(base)} - each == {"Quality focal loss"}
    assert [r.label for r in ABLATIONS["1e"].rows_for(base.replace(image_size=400))][1] != "resnet50v2, 300²"


def test_a_recipe_with_another_prior_keeps_its_claims():
    base = own_profile("mine", {"prior": 0.1}).base
    sides = [(c.id, side) for c in CLAIMS.values() for side in (c.a, c.b) if side]
    plain = [(id, side) for id, side in sides if side.ablation in ("1a", "1b", "1d", "3")]
    assert len(plain) > 20
    for id, side in plain:
        assert side.labels(base), id


def test_what_cannot_be_planned_is_said_at_once():
    quick = PROFILES["quick"]
    with pytest.raises(ValueError, match="--seeds is 100000; it must be 1"):
        plan(quick, ["1b"], 100_000)
    with pytest.raises(ValueError, match="no rows over synthetic-1000: classes; choose another"):
        plan(quick, ["classes"])
    for field in ("seed", "dataset"):
        with pytest.raises(ValueError, match=f"a recipe cannot set {field}: "):
            own_profile("mine", {field: 3})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((Row("a", {"gamma": 2.0}), Row("a", {"gamma": 1.0})), "'a' stand there twice"),
        ((Row("a", {"seed": 3}),), "row 'a' sets the seed"),
    ],
)
def test_rows_of_a_function_are_checked_as_those_given_one_by_one(rows, said):
    with pytest.raises(ValueError, match=said):
        plan(PROFILES["quick"], [Ablation("mine", "a title", "a question", lambda base: rows)])
    with pytest.raises(ValueError, match="it has no title"):
        Ablation("mine", "", "a question", rows)

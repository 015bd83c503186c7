"""RunConfig and its ids; ablations, plans and profiles."""

import dataclasses
import json
import math
import subprocess
import sys
import typing

import pytest

from focalrepro import config as config_module
from focalrepro.config import RunConfig, from_dict
from focalrepro.detector.anchors import RATIOS, make_anchors
from focalrepro.study import paper
from focalrepro.study.ablations import ABLATIONS, get_ablation, plan
from focalrepro.study.profiles import PROFILES, get_profile

TRAIN, VAL = "a" * 64, "b" * 64

# ---- RunConfig


def test_unknown_fields_come_with_a_hint():
    with pytest.raises(ValueError, match=r"no field gama; did you mean 'gamma'\?"):
        from_dict({"gama": 1.0})
    with pytest.raises(ValueError, match="no field learning_rate"):
        RunConfig().replace(learning_rate=0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("gamma", "2"), ("gamma", None), ("steps", 1.5), ("steps", True), ("flip", 1), ("seed", "0")),
        *(("backbone", "resnet"), ("optimizer", "adam"), ("classes", "some"), ("dataset", 5)),
        *(
            ("prior", 1.0),
            ("prior", -0.1),
            ("gamma", -0.1),
            ("gamma", math.nan),
            ("alpha", 1.01),
            ("alpha", -1.0),
        ),
        *(("neg_iou", 0.6), ("first_level", 1), ("first_level", 8), ("lr", 0.0), ("lr", math.nan)),
        *(("image_size", 0), ("batch_size", 0), ("steps", 0), ("topk", 0), ("anchor_scales", 0)),
        *(("train_images", -1), ("warmup", -1), ("head_convs", -1), ("box_beta", 0.0), ("anchor_size", 0.0)),
        *(("score_threshold", -0.1), ("score_threshold", 1.0)),
        *(("nms", 5.0), ("nms", -1.0), ("max_detections", -1), ("max_detections", 0), ("seed", -1)),
        *(("momentum", -3.0), ("momentum", 1.0), ("weight_decay", -1.0), ("box_weight", -1.0)),
        *(("lr", math.inf), ("gamma", math.inf), ("beta", math.nan), ("beta", -math.inf)),
        *(("box_weight", math.nan), ("weight_decay", math.inf), ("anchor_size", math.inf)),
        *(("pos_iou", 7.0), ("pos_iou", 0.0), ("neg_iou", -0.1), ("best_iou", -5.0), ("best_iou", 1.1)),
        *(("anchor_ratios", 2), ("anchor_ratios", 0), ("last_level", 40), ("last_level", 9)),
        *(("image_size", 100), ("image_size", 257)),
    ],
)
def test_wrong_values_name_their_field(field, value):
    with pytest.raises(ValueError, match=rf"RunConfig\.{field} is "):
        RunConfig().replace(**{field: value})


def is_refused(make, *args, **more):
    try:
        make(*args, **more)
    except ValueError:
        return True
    return False


def test_what_a_config_takes_is_what_the_anchors_take():
    """The config is checked without torch, so what it says of anchors and image sizes is said twice."""
    assert {n for n in range(9) if not is_refused(RunConfig, anchor_ratios=n)} == set(RATIOS)
    for size in range(64, 200):
        refused = is_refused(RunConfig, image_size=size, first_level=4, last_level=6)
        assert refused == is_refused(make_anchors, size, (4, 5, 6))
    for size in (96, 128, 160, 192, 256):  # the sides of Table 1e
        assert RunConfig(image_size=size).image_size == size


@pytest.mark.parametrize(("size", "most"), [(64, 6), (96, 7), (128, 7), (160, 8), (256, 8)])
def test_the_coarsest_level_has_an_anchor_in_the_image(size, most):
    assert RunConfig(image_size=size, last_level=most).levels[-1] == most
    coarsest = make_anchors(size, (3, most)).boxes[-1]
    assert coarsest.view(2, 2).mean(0).max() < size, "its centre is in the image"
    with pytest.raises(ValueError, match=f"last_level is {most + 1}; it must be at most {most} for {size}²"):
        RunConfig(image_size=size, last_level=most + 1)


def test_a_random_backbone_cannot_be_frozen():
    with pytest.raises(ValueError, match=r"RunConfig\.weights is 'none'"):
        RunConfig(weights="none", frozen="backbone", flip=False)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().gamma = 1.0


def test_defaults_are_the_papers():
    c = RunConfig()
    assert (c.gamma, c.alpha, c.prior, c.lr, c.momentum, c.weight_decay) == (2.0, 0.25, 0.01, 0.01, 0.9, 1e-4)
    assert (c.batch_size, c.steps, c.levels) == (16, 90_000, (3, 4, 5, 6, 7))
    assert (c.pos_iou, c.neg_iou, c.score_threshold, c.topk, c.nms) == (0.5, 0.4, 0.0, 1000, 0.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"loss": "ghm", "normalizer": "image"},
            r'normalizer is .image.; it must be "positives" for the loss "ghm".* or "moving"',
        ),
        (
            {"head_norm": "group", "fpn_channels": 3},
            r"fpn_channels is 3; it must be 4 or more, and a multiple",
        ),
        (
            {"head_norm": "group", "fpn_channels": 130},
            r"fpn_channels is 130; it must be 4 or more, and a mul",
        ),
    ],
)
def test_what_fields_ask_of_each_other(changes, said):
    with pytest.raises(ValueError, match=said):
        RunConfig(**changes)
    assert RunConfig(head_norm="group", fpn_channels=96).fpn_channels == 96


def other_value(field, value, hint):
    if typing.get_origin(hint) is typing.Literal:
        options = typing.get_args(hint)
        return options[(options.index(value) + 1) % len(options)]
    if hint is bool:
        return not value
    if field in ("anchor_ratios", "gamma_object"):
        return 1
    if field == "image_size":  # stays a multiple of the finest stride
        return value + 8
    return {int: lambda: value + 1, float: lambda: value * 0.9 or 0.1, str: lambda: value + "x"}[hint]()


NEED = {"views": {"frozen": "backbone"}, "kept_channels": {"frozen": "backbone"}}


def test_every_field_is_part_of_the_id():
    base, hints = RunConfig(flip=False), typing.get_type_hints(RunConfig)  # a frozen backbone takes no flip
    ids = {base.run_id(TRAIN, VAL)}
    for field in dataclasses.fields(RunConfig):
        own = field.name in NEED  # fields that only another field allows
        start = base.replace(**NEED[field.name]) if own else base
        changed = start.replace(
            **{field.name: other_value(field.name, getattr(base, field.name), hints[field.name])}
        )
        assert list(changed.differences(start)) == [field.name]
        ids.add(changed.run_id(TRAIN, VAL))
    ids |= {base.run_id(VAL, VAL), base.run_id(TRAIN, TRAIN)}
    assert len(ids) == len(dataclasses.fields(RunConfig)) + 3


def test_ids_stay_what_they_are(monkeypatch):
    """Committed records are found by these: if this fails, every run on every machine is trained anew."""
    monkeypatch.setattr(config_module, "TRAINING_VERSION", 1)
    first = RunConfig(score_threshold=0.05)  # as the defaults were when ids began
    assert first.run_id(TRAIN, VAL) == "19177e33f9c7"
    assert first.replace(gamma=1.0, alpha=0.5, seed=3).run_id(TRAIN, VAL) == "60c47c16ea4d"
    monkeypatch.setattr(config_module, "TRAINING_VERSION", 2)
    assert first.run_id(TRAIN, VAL) != "19177e33f9c7"


def test_the_id_depends_on_values_alone():
    config = RunConfig(gamma=1.0, alpha=0.5, seed=3)
    backwards = from_dict(dict(reversed(config.as_dict().items())))
    through_json = from_dict(json.loads(json.dumps(config.as_dict())))
    whole_numbers = RunConfig(gamma=1, alpha=0.5, seed=3)
    for same in (backwards, through_json, whole_numbers):
        assert same == config and same.run_id(TRAIN, VAL) == config.run_id(TRAIN, VAL)
    assert type(whole_numbers.gamma) is float


# ---- ablations


def test_the_row_that_two_tables_share_is_trained_once():
    profile = get_profile("quick")
    planned = plan(profile, ["1a", "1b"], seeds=1)
    assert len(planned) == 13 and len({p.config for p in planned}) == 13
    shared = [p for p in planned if len(p.wanted_by) == 2]
    assert [(p.config.gamma, p.config.alpha) for p in shared] == [(0.0, 0.75)]
    assert shared[0].wanted_by == (("1a", "α = 0.75"), ("1b", "γ = 0, α = 0.75"))
    assert {(p.config.gamma, p.config.alpha) for p in planned} == {
        *((0.0, a) for a in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)),
        *((0.1, 0.75), (0.2, 0.75), (0.5, 0.5), (1.0, 0.25), (2.0, 0.25), (5.0, 0.25)),
    }


def test_seeds_come_table_by_table():
    planned = plan(get_profile("quick"), ["1b"], seeds=3)
    assert [p.config.seed for p in planned] == [0] * 7 + [1] * 7 + [2] * 7


def test_the_grid_holds_both_tables():
    profile = get_profile("quick")
    grid = plan(profile, ["grid"], seeds=1)
    assert len(grid) == 49
    assert len(plan(profile, ["grid", "1a", "1b"], seeds=1)) == 49


def test_rows_change_only_the_baseline():
    base = get_profile("quick").base
    for name in ("1a", "1b"):
        rows = get_ablation(name).rows_for(base)
        assert [r.paper for r in rows] == list(paper.TABLES[name])
        for config in get_ablation(name).configs(base, [0]).values():
            assert set(config.differences(base)) <= {"gamma", "alpha"}


def test_overrides_reach_every_run():
    planned = plan(get_profile("coco256-paper"), ["1b"], 1, train_images=7)
    assert {p.config.train_images for p in planned} == {7}
    assert {p.config.optimizer for p in planned} == {"sgd"}


def test_an_unknown_loss_is_told_before_anything_is_trained():
    profile = get_profile("quick")
    odd = dataclasses.replace(profile, base=profile.base.replace(loss="focl"))
    with pytest.raises(ValueError, match=r"loss is 'focl'; there are asymmetric, focal, focal_star, .*ohem"):
        plan(odd, ["1a"], 1)


def test_the_command_line_opens_without_torch():
    code = "import sys, focalrepro.cli, focalrepro.study.ablations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="no ablation '1z'; there are lr, rival-lr, lr-ghm, lr-edge"):
        get_ablation("1z")
    with pytest.raises(ValueError, match="no profile 'fast'; there are smoke, quick"):
        get_profile("fast")


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_profiles_name_ablations_that_exist(name):
    profile = PROFILES[name]
    assert profile.name == name and set(profile.ablations) <= set(ABLATIONS)
    for ablation in profile.ablations:
        assert len(plan(profile, [ablation], 1)) == len(get_ablation(ablation).rows_for(profile.base))

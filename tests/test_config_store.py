"""RunConfig and its id, the store of finished runs, the plan of an ablation, and tables made from records."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from focalrepro import config as config_module
from focalrepro import paper, results
from focalrepro.ablations import ABLATIONS, get_ablation, plan
from focalrepro.anchors import RATIOS, make_anchors
from focalrepro.config import RunConfig, from_dict
from focalrepro.profiles import PROFILES, get_profile
from focalrepro.store import RunFileError, Store

TRAIN, VAL = "a" * 64, "b" * 64

# ---- RunConfig


def test_unknown_fields_come_with_a_hint():
    with pytest.raises(ValueError, match=r"no field gama; did you mean gamma\?"):
        from_dict({"gama": 1.0})
    with pytest.raises(ValueError, match="no field learning_rate"):
        RunConfig().replace(learning_rate=0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("gamma", "2"), ("gamma", None), ("steps", 1.5), ("steps", True), ("flip", 1), ("seed", "0")),
        *(("backbone", "resnet"), ("optimizer", "adam"), ("classes", "some"), ("dataset", 5)),
        *(
            ("prior", 0.0),
            ("prior", 1.0),
            ("gamma", -0.1),
            ("gamma", math.nan),
            ("alpha", 1.01),
            ("alpha", -1.0),
        ),
        *(("neg_iou", 0.6), ("first_level", 1), ("first_level", 8), ("lr", 0.0), ("lr", math.nan)),
        *(("image_size", 0), ("batch_size", 0), ("steps", 0), ("topk", 0), ("anchor_scales", 0)),
        *(("train_images", -1), ("warmup", -1), ("head_convs", -1), ("box_beta", 0.0), ("anchor_size", 0.0)),
        *(("score_threshold", 0.0), ("score_threshold", 1.0)),
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
    assert (c.pos_iou, c.neg_iou, c.score_threshold, c.topk, c.nms) == (0.5, 0.4, 0.05, 1000, 0.5)


def other_value(field, value, hint):
    if typing.get_origin(hint) is typing.Literal:
        options = typing.get_args(hint)
        return options[(options.index(value) + 1) % len(options)]
    if hint is bool:
        return not value
    if field == "anchor_ratios":
        return 1
    if field == "image_size":  # stays a multiple of the finest stride
        return value + 8
    return {int: lambda: value + 1, float: lambda: value * 0.9 or 0.1, str: lambda: value + "x"}[hint]()


def test_every_field_is_part_of_the_id():
    base, hints = RunConfig(flip=False), typing.get_type_hints(RunConfig)  # a frozen backbone takes no flip
    ids = {base.run_id(TRAIN, VAL)}
    for field in dataclasses.fields(RunConfig):
        changed = base.replace(
            **{field.name: other_value(field.name, getattr(base, field.name), hints[field.name])}
        )
        assert list(changed.differences(base)) == [field.name]
        ids.add(changed.run_id(TRAIN, VAL))
    ids |= {base.run_id(VAL, VAL), base.run_id(TRAIN, TRAIN)}
    assert len(ids) == len(dataclasses.fields(RunConfig)) + 3


@pytest.mark.parametrize("folder", sorted((Path(__file__).parents[1] / "results").glob("*/runs")))
def test_committed_records_are_whole_and_keep_their_ids(folder, monkeypatch):
    for record in Store(folder).records():
        monkeypatch.setattr(config_module, "TRAINING_VERSION", record["training_version"])
        digests = [record["data"][split]["digest"] for split in ("train", "val")]
        assert from_dict(record["config"]).run_id(*digests) == record["run_id"]


def test_ids_stay_what_they_are(monkeypatch):
    """Committed records are found by these: if this fails, every run on every machine is trained anew."""
    monkeypatch.setattr(config_module, "TRAINING_VERSION", 1)
    assert RunConfig().run_id(TRAIN, VAL) == "19177e33f9c7"
    assert RunConfig(gamma=1.0, alpha=0.5, seed=3).run_id(TRAIN, VAL) == "60c47c16ea4d"
    monkeypatch.setattr(config_module, "TRAINING_VERSION", 2)
    assert RunConfig().run_id(TRAIN, VAL) != "19177e33f9c7"


def test_the_id_depends_on_values_alone():
    config = RunConfig(gamma=1.0, alpha=0.5, seed=3)
    backwards = from_dict(dict(reversed(config.as_dict().items())))
    through_json = from_dict(json.loads(json.dumps(config.as_dict())))
    whole_numbers = RunConfig(gamma=1, alpha=0.5, seed=3)
    for same in (backwards, through_json, whole_numbers):
        assert same == config and same.run_id(TRAIN, VAL) == config.run_id(TRAIN, VAL)
    assert type(whole_numbers.gamma) is float


# ---- Store


def record(config=None, ap=30.0, status="done", replicates=(29.0, 31.0), **more):
    config = config or RunConfig()
    return {
        "run_id": config.run_id(TRAIN, VAL),
        "status": status,
        "config": config.as_dict(),
        "metrics": {"AP": ap, "AP50": ap + 20, "AP75": ap - 5, "APs": None, "APm": ap, "APl": ap},
        "bootstrap": {"AP": list(replicates)},
        "seconds": {"total": 12.5},
        "hardware": {"device": "cpu", "cpu": "a processor"},
        **more,
    }


def test_put_and_get(tmp_path):
    store = Store(tmp_path / "runs")
    first, second = record(), record(RunConfig(seed=1), status="diverged", ap=0.0)
    assert store.get(first["run_id"]) is None and store.records() == []
    store.put(first)
    store.put(second)
    assert store.get(first["run_id"]) == first
    assert store.records() == sorted([first, second], key=lambda r: r["run_id"])
    assert {p.suffix for p in store.folder.iterdir()} == {".json"}, "nothing else stays behind"


def test_a_finished_run_clears_its_error(tmp_path):
    store = Store(tmp_path)
    done = record()
    store.put_error(done["run_id"], "Traceback …")
    assert store.error_path(done["run_id"]).read_text() == "Traceback …"
    assert store.get(done["run_id"]) is None, "a failed run is not a finished one"
    store.put(done)
    assert not store.error_path(done["run_id"]).exists()


def without(key):
    return lambda r: {k: v for k, v in r.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r | {"run_id": "0" * 12}, "run_id is '000000000000', the file name says"),
        (lambda r: r | {"status": "running"}, "status is 'running'"),
        (without("metrics"), "field 'metrics' is missing"),
        (without("config"), "field 'config' is missing"),
        (lambda r: r | {"config": r["config"] | {"gama": 1}}, "config: .*gama; did you mean gamma"),
        (lambda r: r | {"config": r["config"] | {"gamma": "2"}}, "config: RunConfig.gamma is '2'"),
        (lambda r: [r], "field 'run_id' is missing"),
        (without("bootstrap"), "field 'bootstrap' is missing"),
        (lambda r: r | {"bootstrap": {}}, "field 'bootstrap.AP' is missing"),
        *(
            (
                lambda r, wrong=wrong: r | {"bootstrap": {"AP": wrong}},
                r"bootstrap\.AP is .*, not a list, not empty",
            )
            for wrong in ([], 3.0, ["x"], [True], [1.0, math.nan])
        ),
        (lambda r: r | {"metrics": []}, r"metrics is \[\], not an object"),
        (lambda r: r | {"metrics": {"AP50": 1.0}}, "field 'metrics.AP' is missing"),
        *(
            (
                lambda r, wrong=wrong: r | {"metrics": r["metrics"] | {"AP": wrong}},
                r"metrics\.AP is .*, not a number or null",
            )
            for wrong in ("high", True, [30.0], math.inf)
        ),
        (
            lambda r: r | {"metrics": r["metrics"] | {"AP50": "high"}},
            r"metrics\.AP50 is 'high', not a number or null",
        ),
        (lambda r: r | {"seconds": {"total": None}}, r"seconds\.total is None, not a number"),
        (lambda r: r | {"seconds": 12.5}, r"seconds is 12\.5, not an object"),
        (lambda r: r | {"hardware": {"device": "cpu"}}, "field 'hardware.cpu' is missing"),
        (lambda r: r | {"hardware": {"cpu": "a processor"}}, "field 'hardware.device' is missing"),
        (lambda r: r | {"config": [1]}, r"config is \[1\], not an object"),
    ],
)
def test_a_file_that_is_no_record_is_named(tmp_path, change, message):
    store, good = Store(tmp_path), record()
    path = store.path(good["run_id"])
    path.write_text(json.dumps(change(good)))
    for read in (lambda: store.get(good["run_id"]), store.records):
        with pytest.raises(RunFileError, match=message) as caught:
            read()
        assert str(path) in str(caught.value) and "delete the file" in str(caught.value)


def test_what_may_be_null_or_absent(tmp_path):
    """An AP without any object is null; fields that came later are not in older records."""
    store = Store(tmp_path)
    plain = record(replicates=[None, None])
    plain["metrics"] = {"AP": None}
    store.put(plain)
    assert store.records() == [plain]


@pytest.mark.parametrize("keep", [0, 1, 40, -3])
def test_half_a_file_is_no_record(tmp_path, keep):
    store, good = Store(tmp_path), record()
    store.put(good)
    path = store.path(good["run_id"])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunFileError, match=f"{path.name}: not readable as JSON"):
        store.get(good["run_id"])


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_record(tmp_path, monkeypatch, where):
    store, old = Store(tmp_path), record(ap=30.0)
    store.put(old)

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(*((os, "fsync") if where == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="disk is full"):
        store.put(record(ap=31.0))
    with pytest.raises(OSError, match="disk is full"):
        store.put(record(RunConfig(seed=1)))
    monkeypatch.undo()
    assert store.records() == [old]
    assert [p.name for p in tmp_path.iterdir()] == [f"{old['run_id']}.json"], "no partial file stays behind"


def test_nan_is_refused(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        store.put(record(ap=math.nan))
    assert list(tmp_path.iterdir()) == []


def test_only_one_process_trains_into_a_store(tmp_path):
    with Store(tmp_path).lock():
        with (
            pytest.raises(RuntimeError, match=f"another process is training into {tmp_path}"),
            Store(tmp_path).lock(),
        ):
            pass
        with Store(tmp_path / "other").lock():
            pass
    with Store(tmp_path).lock():
        assert Store(tmp_path).records() == []


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
        rows = get_ablation(name).rows
        assert [r.paper for r in rows] == list(paper.TABLES[name])
        for config in get_ablation(name).configs(base, [0]).values():
            assert set(config.differences(base)) <= {"gamma", "alpha"}


def test_overrides_reach_every_run():
    planned = plan(get_profile("coco256"), ["1b"], 1, "paper", train_images=7)
    assert {p.config.train_images for p in planned} == {7}
    assert {p.config.optimizer for p in planned} == {"sgd"}


def test_an_unknown_loss_is_told_before_anything_is_trained():
    profile = get_profile("quick")
    odd = dataclasses.replace(profile, base=profile.base.replace(loss="focl"))
    with pytest.raises(ValueError, match=r"loss is 'focl'; there are focal, focal_star, .*ohem"):
        plan(odd, ["1a"], 1)


def test_the_command_line_opens_without_torch():
    code = "import sys, focalrepro.cli, focalrepro.ablations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="no ablation '1z'; there are 1a, 1b"):
        get_ablation("1z")
    with pytest.raises(ValueError, match="no profile 'fast'; there are smoke, quick"):
        get_profile("fast")
    with pytest.raises(ValueError, match="no recipe 'slow'"):
        get_profile("coco256").config("slow")


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_profiles_name_ablations_that_exist(name):
    profile = PROFILES[name]
    assert profile.name == name and set(profile.ablations) <= set(ABLATIONS)
    for ablation in profile.ablations:
        assert len(plan(profile, [ablation], 1)) == len(get_ablation(ablation).rows_for(profile.base))


# ---- tables from records


def row_records(label_changes, aps, **more):
    base = get_profile("quick").base
    return [record(base.replace(**label_changes, seed=s), ap=ap, **more) for s, ap in enumerate(aps)]


BEST, WORST = {"gamma": 2.0, "alpha": 0.25}, {"gamma": 0.0, "alpha": 0.75}


def test_three_seeds_give_a_t_interval():
    aps = [30.0, 31.0, 33.5]
    frame = results.table(row_records(BEST, aps), "quick", "1b")
    row = frame.set_index("row").loc["γ = 2, α = 0.25"]
    expected = stats.t.interval(0.95, 2, loc=np.mean(aps), scale=stats.sem(aps))
    assert (row["low"], row["high"]) == pytest.approx(expected)
    assert row["AP"] == pytest.approx(31.5) and row["sd"] == pytest.approx(np.std(aps, ddof=1))
    assert row["seeds"] == 3 and row["interval_of"] == "t over seeds" and len(row["run_ids"]) == 3
    assert (row["paper_AP"], row["paper_AP50"], row["paper_AP75"]) == (34.0, 52.5, 36.5)
    assert math.isnan(row["APs"]), "no small object in any image"


def test_one_seed_gives_the_bootstrap_over_images():
    replicates = np.random.default_rng(0).normal(41.0, 1.0, 1000)
    frame = results.table(row_records(BEST, [40.0], replicates=replicates), "quick", "1b")
    row = frame.set_index("row").loc["γ = 2, α = 0.25"]
    # Around the estimate: AP grows a little with every resampling, so the replicates lie too high.
    half = 1.96 * replicates.std()
    assert (row["low"], row["high"]) == pytest.approx((40 - half, 40 + half), abs=1e-3)
    assert row["interval_of"] == "bootstrap over images" and math.isnan(row["sd"])


def test_rows_without_runs_are_nan_and_a_divergence_is_a_zero():
    records = row_records(BEST, [40.0], replicates=[39.0, 41.0])
    records += row_records(WORST, [0.0], status="diverged", replicates=[0.0, 0.0])
    frame = results.table(records, "quick", "1b")
    assert list(frame["row"]) == [r.label for r in ABLATIONS["1b"].rows]
    by_row = frame.set_index("row")
    worst = by_row.loc["γ = 0, α = 0.75"]
    assert worst["AP"] == 0 and worst["diverged"] == 1 and worst["low"] == worst["high"] == 0
    empty = by_row.loc["γ = 1, α = 0.25"]
    assert empty["seeds"] == 0 and empty["run_ids"] == ()
    assert all(math.isnan(empty[c]) for c in ("AP", "AP50", "low", "high", "sd", "rank"))
    assert by_row.loc["γ = 2, α = 0.25", "rank"] == 1 and worst["rank"] == 2
    assert frame["AP"].notna().sum() == 2


def test_runs_of_other_configs_are_left_out():
    """Another budget, another profile: their AP must not slip into the table."""
    other = get_profile("quick").base.replace(**BEST, steps=7)
    frame = results.table([record(other, ap=99.0)], "quick", "1b")
    assert frame["AP"].isna().all()


def test_a_record_from_before_a_field_existed_still_counts():
    (old,) = row_records(BEST, [40.0], replicates=[39.0, 41.0])
    assert old["config"].pop("box_weight") == RunConfig().box_weight
    assert results.table([old], "quick", "1b")["seeds"].sum() == 1


def test_two_tables_share_a_run():
    records = row_records(WORST, [20.0], replicates=[19.0, 21.0])
    for name, label in (("1a", "α = 0.75"), ("1b", "γ = 0, α = 0.75")):
        assert results.table(records, "quick", name).set_index("row").loc[label, "AP"] == 20.0
    frame = results.runs_frame(records, "quick")
    assert set(frame["ablation"]) >= {"1a", "1b"} and set(frame["run_id"]) == {records[0]["run_id"]}
    design = "ablation row gamma alpha loss seed AP AP50 AP75 APs APm APl status run_id seconds images_per_second device"
    assert list(frame.columns)[:17] == design.split()


def test_rank_correlation():
    rows = ABLATIONS["1b"].rows
    records = []
    for row in rows:
        records += row_records(row.changes, [row.paper.AP - 10], replicates=[1.0, 2.0])
    rho, count = results.rank_correlation(results.table(records, "quick", "1b"))
    assert rho == pytest.approx(1.0) and count == 7
    for r in records:
        r["metrics"]["AP"] = 50 - r["metrics"]["AP"]
    rho, count = results.rank_correlation(results.table(records[:5], "quick", "1b"))
    assert rho == pytest.approx(-1.0) and count == 5
    rho, count = results.rank_correlation(results.table(records[:2], "quick", "1b"))
    assert math.isnan(rho) and count == 2

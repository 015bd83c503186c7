"""Run records: what the store takes and keeps, and the tables made from them."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from focalrepro import results
from focalrepro.config import RunConfig
from focalrepro.study.ablations import ABLATIONS
from focalrepro.study.profiles import get_profile
from focalrepro.study.records import RunFileError, Store

TRAIN, VAL = "a" * 64, "b" * 64

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

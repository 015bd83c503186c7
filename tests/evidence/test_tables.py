"""Tables made from records: what is averaged over what, with which interval."""

import math

import numpy as np
import pytest
from made_up import changed, record, runs, sealed, study

from focalrepro.config import RunConfig
from focalrepro.evaluation.record import Record
from focalrepro.evidence import tables
from focalrepro.evidence.difference import UNKNOWN_SEED_MARGIN, Evidence
from focalrepro.study.ablations import ABLATIONS, GRID_ALPHAS, GRID_GAMMAS
from focalrepro.study.profiles import get_profile
from focalrepro.study.rates import family_of

BASE = get_profile("quick").base
BEST, WORST = {"gamma": 2.0, "alpha": 0.25}, {"gamma": 0.0, "alpha": 0.75}

pytestmark = pytest.mark.usefixtures("nothing_committed")


def row_records(label_changes, aps, **more):
    config = BASE.replace(**label_changes)
    config = config.replace(lr=get_profile("quick").rates[family_of(config)])
    return [record(config.replace(seed=s), ap=ap, **more) for s, ap in enumerate(aps)]


def table(records, name="1b", profile="quick"):
    return tables.table(Evidence(study(records, profile)), name)


def test_a_row_is_the_mean_of_its_seeds_beside_the_papers():
    frame = table(row_records(BEST, [30.0, 31.0, 33.5], metrics={"APs": None}))
    row = frame.set_index("row").loc["γ = 2, α = 0.25"]
    assert row["AP"] == pytest.approx(31.5)
    assert row["seeds"] == 3 and len(row["files"]) == 3 and row["seed_list"] == (0, 1, 2)
    assert (row["paper_AP"], row["paper_AP50"], row["paper_AP75"]) == (34.0, 52.5, 36.5)
    assert math.isnan(row["APs"]), "no small object in any image"
    assert row["low"] < 30.5 and row["high"] > 32.5


def test_an_interval_holds_images_and_seeds():
    still, shaken = {"replicates": [30.0] * 100}, {"replicates": np.random.default_rng(0).normal(30, 3, 100)}
    aps, width = [29.0, 30.0, 31.0], {}
    for name, more in (("seeds", still), ("both", shaken)):
        row = table(row_records(BEST, aps, **more)).set_index("row").loc["γ = 2, α = 0.25"]
        width[name] = row["high"] - row["low"]
        assert (row["low"] + row["high"]) / 2 == pytest.approx(30.0)
    assert 3 < width["seeds"] < 6 and width["both"] > 2 * width["seeds"]


def test_one_seed_alone_is_widened_for_its_luck():
    replicates = np.random.default_rng(0).normal(41.0, 1.0, 1000)
    row = table(row_records(BEST, [40.0], replicates=replicates)).set_index("row").loc["γ = 2, α = 0.25"]
    # Around the estimate: AP grows a little with every resampling, so the replicates lie too high.
    half = 1.96 * replicates.std() + UNKNOWN_SEED_MARGIN
    assert (row["low"], row["high"]) == pytest.approx((40 - half, 40 + half), abs=5e-3)


def test_rows_without_runs_are_nan_and_a_divergence_is_a_zero():
    records = row_records(BEST, [40.0], replicates=[39.0, 41.0])
    records += row_records(WORST, [0.0], status="diverged", replicates=[0.0, 0.0])
    frame = table(records)
    assert list(frame["row"]) == [r.label for r in ABLATIONS["1b"].rows_for(BASE)]
    by_row = frame.set_index("row")
    worst = by_row.loc["γ = 0, α = 0.75"]
    assert worst["AP"] == 0 and worst["diverged"] == 1 and worst["low"] == 0
    empty = by_row.loc["γ = 1, α = 0.25"]
    assert empty["seeds"] == 0 and empty["files"] == ()
    assert all(math.isnan(empty[c]) for c in ("AP", "AP50", "low", "high", "rank"))
    assert by_row.loc["γ = 2, α = 0.25", "rank"] == 1 and worst["rank"] == 2
    assert frame["AP"].notna().sum() == 2


def test_rows_are_averaged_over_the_seeds_that_all_have():
    records = row_records(BEST, [40.0, 50.0, 60.0]) + row_records(WORST, [20.0])
    frame = table(records).set_index("row")
    assert frame.loc["γ = 2, α = 0.25", "AP"] == 40.0 and frame.loc["γ = 2, α = 0.25", "seeds"] == 1
    assert len(tables.runs_frame(study(records, "quick")).query("ablation == '1b'")) == 4, (
        "every run is listed"
    )


def test_runs_of_other_configs_are_left_out():
    """Another budget, another profile: their AP must not slip into the table."""
    assert table([record(BASE.replace(**BEST, steps=7), ap=99.0)])["AP"].isna().all()


def test_a_record_from_before_a_field_existed_still_counts():
    (old,) = row_records(BEST, [40.0])
    config = dict(old.as_json()["config"])
    assert config.pop("box_weight") == RunConfig().box_weight
    values = sealed(old.as_json() | {"config": config}, {})
    assert table([Record.model_validate(values)])["seeds"].sum() == 1


def test_of_one_seed_under_two_versions_the_newer_counts():
    frame = table(row_records(BEST, [20.0], version=3) + row_records(BEST, [30.0], version=4))
    assert frame["AP"].max() == 30.0 and frame["seeds"].sum() == 1


def test_two_tables_share_a_run():
    records = row_records(WORST, [20.0])
    for name, label in (("1a", "α = 0.75"), ("1b", "γ = 0, α = 0.75")):
        assert table(records, name).set_index("row").loc[label, "AP"] == 20.0
    frame = tables.runs_frame(study(records, "quick"))
    assert set(frame["ablation"]) >= {"1a", "1b"} and set(frame["run_id"]) == {records[0].run_id}
    design = "ablation row gamma alpha loss seed AP AP50 AP75 APs APm APl status run_id seconds"
    assert list(frame.columns)[:17] == [*design.split(), "images_per_second", "device"]


def test_runs_on_different_data_are_no_seeds_of_one_row():
    records = row_records(BEST, [30.0])
    other = record(BASE.replace(**BEST, seed=1)).as_json()
    data = {"train": other["data"]["train"], "val": {"images": 9, "digest": "c"}}
    run_id = BASE.replace(**BEST, seed=1, score_threshold=0.0).run_id("a" * 64, "c")
    records.append(Record.model_validate(sealed(other | {"data": data}, {"run_id": run_id})))
    with pytest.raises(ValueError, match=run_id):
        table(records)


def test_rank_correlation():
    rows = ABLATIONS["1b"].rows_for(BASE)
    records = [r for row in rows for r in row_records(row.changes, [row.paper.AP - 10])]
    rho, count = tables.rank_correlation(table(records))
    assert rho == pytest.approx(1.0) and count == 7
    turned = [changed(r, at_05={"AP": 50 - r.AP}) for r in records]
    assert tables.rank_correlation(table(turned[:5])) == (pytest.approx(-1.0), 5)
    rho, count = tables.rank_correlation(table(turned[:2]))
    assert math.isnan(rho) and count == 2
    faint = [changed(r, at_05={"AP": r.AP / 100}) for r in records]
    assert math.isnan(tables.rank_correlation(table(faint))[0]), "rows that find nothing have no order"


# ---- planes


def test_ties_are_the_best_of_a_column_and_what_is_not_clearly_worse():
    level = {
        (0.0, 0.75): 30.0,
        (0.0, 0.5): 29.9,
        (0.0, 0.25): 20.0,
        (1.0, 0.25): 40.0,
        (2.0, 0.25): 5,
        (2.0, 0.5): 1,
    }
    of = runs(lambda c: level.get((c.gamma, c.alpha)), ("grid",), 3, 0.3, 0.5)
    marks = tables.ties(Evidence(study(of)), "grid", "gamma", "alpha")
    assert tuple(marks.columns) == GRID_GAMMAS and tuple(marks.index) == GRID_ALPHAS
    assert [(x, y) for x in marks for y in marks.index if marks.loc[y, x]] == [(0, 0.5), (0, 0.75), (2, 0.25)]
    nothing = runs(lambda c: 0.0, ("plane",), 1, 0.0, 0.0)
    assert not tables.ties(Evidence(study(nothing)), "plane", "gamma", "beta").any(axis=None)

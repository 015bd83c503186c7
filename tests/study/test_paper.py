"""The paper's numbers agree with each other where the paper repeats them."""

import dataclasses

import pytest

from focalrepro.study.paper import FL_STAR_EFFECTIVE_AP, RECIPE, TABLES, TEXT_CLAIMS, best

ROWS = {"1a": 7, "1b": 7, "1c": 7, "1d": 10, "1e": 10, "2": 9, "3": 4}


def row(table, **fields):
    """The one row of a table with these fields."""
    found = [r for r in TABLES[table] if fields.items() <= r.fields.items()]
    assert len(found) == 1, (table, fields)
    return found[0]


def test_every_row_is_there_once():
    assert {name: len(rows) for name, rows in TABLES.items()} == ROWS
    for name, rows in TABLES.items():
        assert len({(r.label, *r.fields.items()) for r in rows}) == len(rows), name
        if name != "2":  # Table 2 has two RetinaNets, and two detectors on one backbone
            assert len({tuple(r.fields.items()) for r in rows}) == len(rows), name
            assert len({r.label for r in rows}) == len(rows), name


def test_rows_that_tables_share():
    ce = row("1a", alpha=0.75)
    assert ce.aps == row("1b", gamma=0.0).aps == row("3", gamma=0.0).aps == (31.1, 49.4, 33.0)
    focal = row("1b", gamma=RECIPE.gamma)
    assert focal.fields["alpha"] == RECIPE.alpha
    assert focal.aps == row("3", loss="focal", gamma=2.0).aps == (34.0, 52.5, 36.5)
    assert focal.aps == row("1c", scales=len(RECIPE.anchor_scales), ratios=len(RECIPE.anchor_ratios)).aps
    # Minival and test-dev differ in the second digit, for the same model.
    assert row("1d", loss="focal").AP == row("1e", depth=101, scale=600).AP == 36.0


@pytest.mark.parametrize(
    ("table", "fields", "ap"),
    [
        ("1a", {"alpha": 0.75}, 31.1),
        ("1b", {"gamma": 2.0, "alpha": 0.25}, 34.0),
        ("1c", {"scales": 2, "ratios": 3}, 34.2),
        ("1d", {"loss": "focal"}, 36.0),
        ("1e", {"depth": 101, "scale": 800}, 37.8),
        ("2", {"backbone": "ResNeXt-101-FPN"}, 40.8),
        ("3", {"loss": "focal", "gamma": 2.0}, 34.0),
    ],
)
def test_best_row(table, fields, ap):
    found = best(table)
    assert found is row(table, **fields)
    assert found.aps[0] == ap


def test_ap_lies_between_its_iou_thresholds():
    for name, rows in TABLES.items():
        for r in rows:
            if r.AP and r.label != "YOLOv2":  # YOLOv2 alone has AP75 below AP
                assert r.AP < r.AP75 < r.AP50 < 100, (name, r)
            if r.APs is not None:
                assert r.APs < r.APm < r.APl, (name, r)


def test_deeper_and_larger_is_better_and_slower():
    for scale in (400, 500, 600, 700, 800):
        shallow, deep = row("1e", depth=50, scale=scale), row("1e", depth=101, scale=scale)
        assert shallow.AP < deep.AP and shallow.ms < deep.ms
    for depth in (50, 101):
        rows = [r for r in TABLES["1e"] if r.fields["depth"] == depth]
        for measure in ("AP", "AP50", "AP75", "APs", "ms"):
            values = [getattr(r, measure) for r in rows]
            assert values == sorted(values), (depth, measure)


def test_claims_in_the_text_agree_with_the_tables():
    assert TEXT_CLAIMS["prior"].values == {"pi": RECIPE.prior, "AP": row("1a", alpha=0.5).AP}
    assert all(r.AP > FL_STAR_EFFECTIVE_AP for r in TABLES["3"] if r.fields["loss"] == "focal_star")
    ohem = [r for r in TABLES["1d"] if r.fields["loss"] == "ohem"]
    assert max(r.AP for r in ohem) == row("1d", ohem_batch=128, ohem_nms=0.5, ohem_ratio=None).AP == 32.8


def test_numbers_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        best("1a").AP = 50.0

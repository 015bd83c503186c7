"""The paper's numbers agree with each other where the paper repeats them."""

import dataclasses

import pytest

from focalrepro.config import RunConfig
from focalrepro.study.paper import TABLES

PAPER = RunConfig()  # the defaults are the paper's
ROWS = {"1a": 7, "1b": 7, "1c": 7, "1d": 10, "1e": 10, "2": 9, "3": 4}


def row(table, **fields):
    """The one row of a table with these fields."""
    found = [r for r in TABLES[table] if fields.items() <= r.fields.items()]
    assert len(found) == 1, (table, fields)
    return found[0]


def aps(r):
    return r.AP, r.AP50, r.AP75


def test_every_row_is_there_once():
    assert {name: len(rows) for name, rows in TABLES.items()} == ROWS
    for name, rows in TABLES.items():
        assert len({(r.label, *r.fields.items()) for r in rows}) == len(rows), name
        if name != "2":  # Table 2 has two RetinaNets, and two detectors on one backbone
            assert len({tuple(r.fields.items()) for r in rows}) == len(rows), name
            assert len({r.label for r in rows}) == len(rows), name


def test_rows_that_tables_share():
    ce = row("1a", alpha=0.75)
    assert aps(ce) == aps(row("1b", gamma=0.0)) == aps(row("3", gamma=0.0)) == (31.1, 49.4, 33.0)
    focal = row("1b", gamma=PAPER.gamma)
    assert focal.fields["alpha"] == PAPER.alpha
    assert aps(focal) == aps(row("3", loss="focal", gamma=2.0)) == (34.0, 52.5, 36.5)
    anchors = {name: getattr(PAPER, name) for name in ("anchor_scales", "anchor_ratios")}
    assert aps(focal) == aps(row("1c", **anchors))
    # Minival and test-dev differ in the second digit, for the same model.
    assert row("1d", loss="focal").AP == row("1e", depth=101, scale=600).AP == 36.0


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


def test_numbers_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TABLES["1a"][0].AP = 50.0
    with pytest.raises(TypeError):
        TABLES["1a"][0].fields["alpha"] = 0.5

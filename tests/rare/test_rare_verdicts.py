"""Sentences, tables and figures about the rows."""

import numpy as np
import pandas as pd
import pytest

from focalrepro.rare import figures, models, verdicts
from focalrepro.rare.models import CE, METHODS, MOVED, TREES


def test_verdicts(made_up):
    better, worse, neither = verdicts.verdicts(made_up)
    # t of 2 degrees of freedom is 4.303; 0.01 / sqrt(3) times that is 0.025
    assert better == (
        "better against cross entropy at 1:1000 on X: "
        "average precision +0.110 (+0.085 … +0.135): clearly better"
    )
    assert worse.endswith("average precision −0.110 (−0.135 … −0.085): clearly worse")
    assert neither.endswith("no clear difference")
    assert verdicts.verdicts(made_up, only="clearly worse") == [worse]


def test_less_is_better_for_calibration(made_up):
    better, worse, _ = verdicts.verdicts(made_up, ("ece",))
    assert better.endswith("clearly worse") and worse.endswith("clearly better")


def test_counts_and_places(made_up):
    counted = verdicts.counts(made_up, ("ap",)).loc["average precision"]
    assert counted.loc["better", "clearly better"] == 1 and counted.loc["worse", "clearly worse"] == 1
    assert counted.loc["neither"].tolist() == [0, 0, 1]
    (line,) = verdicts.verdicts(made_up, ("f1",), methods=["worse"])
    assert line.endswith("on X: F1 of the decisions −0.110 (−0.135 … −0.085): clearly worse")
    assert verdicts.verdicts(made_up, ("f1",), only="clearly better", methods=["worse"]) == []


def test_the_compact_table_marks_what_is_clear(made_up):
    shown = verdicts.compact(made_up, ("ap", "ece")).loc[("X", "1:1000")]
    assert shown["average precision"].to_dict() == {
        **{CE.name: "0.500", "better": "0.610\u00a0▲", "worse": "0.390\u00a0▼", "neither": "0.507"}
    }
    assert shown["calibration error"]["better"] == "0.610\u00a0▼", "less of it is better"


def test_tables_for_readers(made_up):
    shown = verdicts.table(made_up)
    assert not any("_" in text for text in [*shown.columns, *verdicts.counts(made_up).index.names])
    found = verdicts.shown(made_up.assign(ap=made_up["ap"] / 1000), methods=["better", "worse"])
    assert found["difference (95 %)"].tolist()[0].startswith("+0.0001 ("), "no number rounds to 0"
    blocks = verdicts.printed(made_up)
    assert blocks.startswith("\nX at 1:1000, 5 positives to train on\n") and blocks.count("better 0.610") == 1


def focal(made_up):
    """The made-up rows with the names of two settings of focal loss: one better by .11, one worse."""
    rows = made_up.replace({"method": {"better": METHODS[2].name, "worse": METHODS[3].name}})
    return rows[rows["method"] != "neither"].assign(test_negatives=0, test_positives=0)


def test_worth_it(made_up):
    """A half of 0.05: t of 2 degrees of freedom at 1 - .05/4 is 6.205, times 0.01 / sqrt(3) is 0.036."""
    (said,) = verdicts.worth(focal(made_up))
    assert said == (
        "X at 1:1000: focal loss is worth it: the best of 2 settings, focal loss γ = 2, α = .25, changes "
        "average precision by +0.110 (+0.074 … +0.146) against cross entropy with 0.500; "
        "the highest of all is focal loss γ = 2, α = .25 with 0.610"
    )


def test_splits_that_share_rows_widen_the_interval(made_up):
    """As many rows tested on as trained on: the variance is s² (1/3 + 1), the half twice as long, 0.072."""
    shared = focal(made_up).assign(test_positives=5, test_negatives=5000)
    assert "by +0.110 (+0.038 … +0.182)" in verdicts.worth(shared)[0]
    rows = verdicts.differences(shared).set_index("method")
    assert rows.loc[METHODS[2].name, "low"] == pytest.approx(0.11 - 4.303 * 0.01 * (4 / 3) ** 0.5, abs=1e-3)
    shared["test_negatives"] = 50_000  # ten times as many: 0.202, and 0 lies within
    assert "focal loss is not shown to be worth it" in verdicts.worth(shared)[0]


def test_not_worth_it(made_up):
    rows = focal(made_up)
    (said,) = verdicts.worth(rows[rows["method"] != METHODS[2].name])
    assert "focal loss is not worth it: the best of 1 setting, focal loss γ = 2, changes" in said
    assert "by −0.110 (−0.135 … −0.085)" in said and said.endswith(
        "the highest of all is cross entropy with 0.500"
    )
    (said,) = verdicts.worth(rows[rows["seed"] == 0])
    assert "not shown" in said and said.endswith("(one seed, no interval: take --seeds 2 or more)")


def test_the_better_model_decides(made_up):
    trees = made_up.replace({"method": {CE.name: TREES[0].name, "better": TREES[1].name}})
    trees = trees[trees["method"].isin([TREES[0].name, TREES[1].name])]
    for higher, names in (
        (0.2, TREES),
        (-0.2, METHODS[::3]),
    ):  # of focal loss, trees gain .11 and the network loses .11
        both = pd.concat(
            [focal(made_up), trees.assign(ap=trees["ap"] + higher, test_negatives=0, test_positives=0)]
        )
        (said,) = verdicts.worth(both[both["method"] != METHODS[2].name])
        assert f"the best of 1 setting, {names[1].name}, changes" in said
        assert f"against {names[0].name} with" in said and said.endswith(
            f"is {TREES[1].name} with {0.61 + higher:.3f}"
        ) == (higher > 0)


def test_trees_are_compared_with_trees(made_up):
    names = {CE.name: TREES[0].name, "better": TREES[1].name, "worse": METHODS[3].name}
    both = pd.concat([made_up, made_up.replace({"method": names})]).drop_duplicates(["method", "seed"])
    both.loc[both["method"] == TREES[0].name, "ap"] += 1
    found = verdicts.differences(both).set_index("method")
    assert found.loc[TREES[1].name, "reference"] == TREES[0].name
    assert found.loc[TREES[1].name, "difference"] == pytest.approx(-0.89)
    assert TREES[0].name not in found.index and found.loc[METHODS[3].name, "reference"] == CE.name


def test_one_seed_has_no_interval(made_up):
    one = made_up[made_up["seed"] == 0]
    assert all(s.endswith("one seed, no interval") for s in verdicts.verdicts(one))
    assert verdicts.table(one)["average precision"].tolist()[:2] == ["0.500", "0.500"]


def test_the_table_has_intervals(made_up):
    """4.303 times 0.1 · sqrt(1/3 + 9/5005) is 0.249: the second part is the rows that splits share."""
    assert verdicts.table(made_up)["average precision"].iloc[0] == "0.500 (0.251 … 0.749)"
    assert verdicts.mean_interval([1.0, float("nan"), 3.0])[0] == 2


def test_reference_must_be_there(made_up):
    with pytest.raises(ValueError, match="nobody"):
        verdicts.differences(made_up, reference="nobody")


def test_by_rate_draws_the_means(frame):
    drawn = figures.by_rate(frame, ("ap", "ece", "f1")).axes
    assert len(drawn) == 3 and drawn[0].get_ylabel().startswith("average precision\n(more is better)")
    assert [t.get_text() for t in drawn[2].get_xticklabels()] == ["1:10", "1:30"]
    assert drawn[0].get_title() == "generated" and drawn[2].get_xlabel() == "positives : negatives"
    of_ce = frame[frame["method"] == CE.name].groupby("rate")["ap"].mean().tolist()
    assert drawn[0].lines[0].get_ydata().tolist() == pytest.approx(of_ce)
    purple = [[line for line in axes.lines if line.get_color() == figures.COLOURS[MOVED]] for axes in drawn]
    assert not any(
        np.isfinite(line.get_ydata()).any() for line in purple[0]
    )  # it ranks as cross entropy does
    assert any(np.isfinite(line.get_ydata()).any() for line in purple[2])


def test_by_rate_draws_the_tables_intervals(made_up):
    rows = made_up.replace({"method": {"better": METHODS[2].name}}).assign(test_negatives=4996)
    (axes,) = figures.by_rate(rows[rows["method"].isin((CE.name, METHODS[2].name))], ("ap",)).axes
    drawn = [y for line in axes.lines if len(y := line.get_ydata()[np.isfinite(line.get_ydata())])]
    _, low, high = verdicts.mean_interval([0.5, 0.6, 0.4], shared=1.0)  # tested on as many as trained on
    assert max(map(np.ptp, drawn)) == pytest.approx(high - low)


def test_paired_and_reliability(small, frame, fast):
    shown = figures.paired(verdicts.differences(frame)).axes[0]
    assert [t.get_text() for t in shown.get_yticklabels()] == ["generated, 1:10", "generated, 1:30"]
    splits, _, scores, _ = models.fitted_scores(small, 30, 2, fast)
    figure = figures.reliability(splits, scores, METHODS, "title")
    assert len(figure.axes[0].lines) == 1 + len(METHODS)
    for line in figure.axes[0].lines[1:]:
        assert len(line.get_xdata()) > 0 and np.isfinite(line.get_ydata()).all()


def test_a_tie_of_one_metric_is_no_tie_of_the_scores(made_up):
    made_up["f1"] = 0.0
    found = verdicts.differences(made_up, ("f1",)).set_index("method")
    assert found.loc[models.MOVED, "same"] and not found.loc["better", "same"]
    assert (found["difference"] == 0).all()

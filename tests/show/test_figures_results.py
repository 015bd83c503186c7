"""Planes, sweeps and speeds: what is computed is right on known cases, and the figures show it."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from legible import draw
from made_up import runs, study

import focalrepro
from focalrepro.evidence import statistics
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import table
from focalrepro.show import figures_diagnostics, figures_loss
from focalrepro.show.figures_lines import sweep
from focalrepro.show.figures_results import figure_of
from focalrepro.show.figures_rows import forest
from focalrepro.show.style import GREY
from focalrepro.study.ablations import ABLATIONS, GRID_ALPHAS, GRID_GAMMAS
from focalrepro.study.profiles import get_profile

pytestmark = pytest.mark.usefixtures("nothing_committed")


def evidence(name, ap, seeds=1, **more):
    """Of runs of the smoke profile without any luck."""
    return Evidence(study(runs(ap, (name,), seeds, 0.0, 0.0, replicates=3, **more)))


def line(axes, label):
    return next(x for x in axes.get_lines() if x.get_label() == label)


def test_the_ridge_follows_the_best_alpha(tmp_path):
    best = dict(zip(GRID_GAMMAS, (0.9, 0.75, 0.75, 0.5, 0.25, 0.25, None), strict=True))

    def ap(c):
        return 0.0 if best[c.gamma] is None else 30.0 - 9 * abs(c.alpha - best[c.gamma])

    e = evidence("grid", ap, at_05=lambda c, rng: {"AP": ap(c) * c.alpha})
    figure = figure_of(e, "grid")
    with_threshold = figure.axes[1]
    assert with_threshold.get_title() == "at the paper's threshold, .05"
    x, y = line(figure.axes[0], "best α for each γ, or not clearly worse").get_data()
    marked = [(GRID_GAMMAS[int(a)], GRID_ALPHAS[int(b)]) for a, b in zip(x, y, strict=True)]
    assert marked == [(g, a) for g, a in best.items() if a]  # nothing is detected at γ = 5
    _, rows = line(with_threshold, "best α for each γ, or not clearly worse").get_data()
    assert {GRID_ALPHAS[int(row)] for row in rows} == {0.99, 0.999}, "by its own measure"
    assert len(line(figure.axes[0], "the paper's").get_xdata()) == 7
    assert "30.0" in {t.get_text() for t in figure.axes[0].texts}
    draw(figure, tmp_path)
    same = figure_of(evidence("grid", lambda c: 30.0), "grid")
    assert len([a for a in same.axes if a.texts]) == 1, "the threshold cuts nothing off"


def test_plane_of_the_variant_has_its_own_axes(tmp_path):
    figure = figure_of(evidence("plane", lambda c: None if c.gamma == 4 else 20 + c.beta), "plane")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("γ", "β")
    gammas, betas = [1.0, 2.0, 4.0], [-1.0, 0.0, 1.0, 2.0]
    assert len(axes.texts) == len(gammas) * len(betas)
    x, y = line(axes, "best β for each γ, or not clearly worse").get_data()
    assert [int(a) for a in x] == [0, 1] and {betas[int(b)] for b in y} == {2.0}
    draw(figure, tmp_path)


def filled(axes):
    """At which rows discs stand, from above."""
    *_, discs = [x for x in axes.get_lines() if x.get_marker() == "o"]
    return sorted(int(y) for y in discs.get_ydata())


def test_rows_are_filled_that_are_not_clearly_worse_than_the_best():
    def ap(c):
        return {0.25: 9.5, 0.5: 9.5}.get(c.alpha, 5.25)

    ours, theirs = figure_of(evidence("1a", ap, seeds=3), "1a").axes
    assert filled(ours) == [1, 2] and "or not clearly worse" in ours.get_xlabel().replace("\n", " ")
    assert {t.get_text() for t in ours.texts} == {"9.50", "5.25"}, "below 10 two digits"
    assert filled(theirs) == [3] and theirs.get_xlabel().endswith("(filled: the best)")
    ours, theirs = figure_of(evidence("1a", ap), "1a").axes
    assert filled(ours) == [] and "under 3 seeds" in ours.get_xlabel() and filled(theirs) == [3]


def test_ours_at_the_papers_threshold_stands_beside_the_papers():
    e = evidence("1a", lambda c: 30.0, seeds=3, at_05=lambda c, rng: {"AP": 30 * c.alpha})
    figure = figure_of(e, "1a")
    ours, theirs = figure.axes
    at_05 = [x for x in ours.get_lines() if x.get_color() == GREY]
    assert [list(x.get_xdata()) for x in at_05] == [
        [30 * a for a in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)]
    ]
    assert "no threshold" in ours.get_xlabel() and "scores ≥ .05" in theirs.get_xlabel()
    assert "at scores ≥ .05" in figure.legends[0].get_texts()[0].get_text()
    assert not figure_of(evidence("1a", lambda c: 30.0, seeds=3), "1a").legends, "it cuts nothing off"


def test_rows_are_the_best_of_their_own_data():
    def ap(c):
        return {"synthetic-100": 60.0, "synthetic-10000": 20.0}[c.dataset] + c.gamma

    of = runs(ap, ("imbalance-steady",), 3, 0.0, 0.0, "full-quick", replicates=3)
    (axes,) = figure_of(Evidence(study(of, "full-quick")), "imbalance-steady").axes
    rows = [t.get_text() for t in axes.get_yticklabels()]
    assert [rows[y][:2] for y in filled(axes)] == ["FL", "FL"] and "on its data" in axes.get_xlabel()


def said(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_forest_fills_what_is_clear(tmp_path):
    paper = pd.DataFrame({"value": [3.8, np.nan], "low": np.nan, "high": np.nan}, ["a", "b"])
    ours = pd.DataFrame({"value": [0.5, -0.2], "low": [0.1, -0.6], "high": [0.9, 0.2]}, ["a", "b"])
    figure = forest({"paper": paper, "ours": ours}, "title")
    assert [t.get_text() for t in figure.axes[0].texts] == ["+3.8"]
    assert [t.get_text() for t in figure.axes[1].texts] == ["+0.50", "−0.20"]
    *_, filled = [x for x in figure.axes[1].get_lines() if x.get_marker() == "o"]
    assert list(filled.get_xdata()) == [0.5]
    draw(figure, tmp_path)
    assert "no mark: the paper has no such number" in said(figure) and len(said(figure)) == 3
    near = ours / 4
    figure = forest({"ours": ours, "near": near.assign(thick=[True, False])})
    assert [t.get_text() for t in figure.axes[1].texts] == ["+0.12", "−0.05"], (
        "digits as the intervals are wide"
    )
    assert "an interval adjusted for the primary claims (Holm)" in said(figure) and len(said(figure)) == 3
    (bars,) = figure.axes[1].collections
    assert list(bars.get_linewidths()) == [3, 1.4]
    figure = forest({"ours": ours.assign(judged=False)})
    *_, filled = [x for x in figure.axes[0].get_lines() if x.get_marker() == "o"]
    assert not len(filled.get_xdata()) and figure.axes[0].texts[0].get_text() == "+0.50"


def test_sweep_of_the_prior(tmp_path):
    e = evidence(
        "prior", lambda c: "x" if c.gamma == 0 and c.prior == 0.5 else None if c.prior == 0.1 else 20.0
    )
    figure = figure_of(e, "prior", "prior")
    axes = figure.axes[0]
    _, labels = axes.get_legend_handles_labels()
    assert set(labels) == {"CE", "FL", "diverged"}
    crosses = [x for x in axes.get_lines() if x.get_marker() == "X" and len(x.get_xdata())]
    assert len(crosses) == 1
    assert crosses[0].get_xdata() == pytest.approx(0.5, rel=0.05) and crosses[0].get_ydata() == 0
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.001", "0.01", "0.1", "0.5"]
    draw(figure, tmp_path)


def test_rarity_is_drawn_at_its_number():
    of = runs(lambda c: 30 + 2 * c.gamma, ("imbalance",), 1, 0.0, 0.0, "full-quick", replicates=3)
    figure = figure_of(Evidence(study(of, "full-quick")), "imbalance")
    axes, ahead = figure.axes  # and none below, where this divisor alone has runs
    drawn = {round(float(x)) for line in axes.lines for x in line.get_xdata()}
    assert 75 <= min(drawn) <= 100 and 10_000 <= max(drawn) <= 13_000, "lines stand a little apart"
    lead = [list(line.get_ydata()) for line in ahead.lines if len(line.get_xdata()) == 5]
    assert [0.0] * 5 in lead and [4.0] * 5 in lead, "focal loss's over plain cross entropy, which has none"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sum(name.startswith("FL") for name in names) == 2, "one line, and that of a tenth of the images"
    assert not [name for name in names if name.endswith(",000")]


def test_the_lead_by_divisor_and_rates():
    def ap(c):
        steady, rate = c.normalizer == "moving", c.lr
        return 30 + (c.gamma > 0) * (6 - 4 * steady + 100 * rate)

    three = ("imbalance", "imbalance-steady", "rarity-rate")
    e = Evidence(study(runs(ap, three, 1, 0.0, 0.0, "full-quick", replicates=3), "full-quick"))
    below = figure_of(e, "imbalance").axes[2]
    rates = e.study.rates
    borrowed, own = rates["FL, γ = 2"], rates["FL, γ = 2, 1 in 10,000"]
    drawn = {c.get_label(): list(c.lines[0].get_ydata()) for c in below.containers}
    assert drawn["paper's divisor, rates of 1 in 1,000"] == pytest.approx([6 + 100 * borrowed] * 5)
    assert drawn["moving average, rates of 1 in 1,000"] == pytest.approx([2 + 100 * borrowed] * 2)
    assert drawn["paper's divisor, rates of its own"] == pytest.approx([6 + 100 * own])
    assert len(drawn["moving average, rates of its own"]) == 2


def test_sweep_of_the_data_counts_images(tmp_path):
    e = evidence("data", lambda c: 10 + 10 * c.train_fraction)
    frame = table(e, "data")
    assert frame["images"].tolist() == 2 * [120, 250, 500, 1000]
    axes = figure_of(e, "data", "data").axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["120", "250", "500", "1,000"]
    drawn = [x for x in axes.get_lines() if x.get_marker() in "os" and len(x.get_xdata()) == 4]
    assert len(drawn) == 2 and all((np.diff(x.get_ydata()) > 0).all() for x in drawn)
    draw(sweep(frame, "images", "training images"), tmp_path)


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_an_ablation_without_two_rows_is_a_line_that_says_how_to_make_it(name):
    profile = next(p for p in ("quick", "coco-cpu") if ABLATIONS[name].rows_for(get_profile(p).base))
    empty = focalrepro.Study(profile, records=[])
    assert f"`focalrepro run {name} --profile {profile}`" in empty.figure(name, "title").data
    assert empty.comparison(name) is None and empty.gains(name, "any") is None
    figure_of(Evidence(study([], profile)), name, "title")


def test_data_without_an_ablations_rows_is_a_line_that_says_so():
    said = focalrepro.Study("coco-cpu", records=[]).figure("imbalance").data
    assert "this profile's data has no such rows" in said and "focalrepro run" not in said


def test_variant_curves_are_the_trained_losses(tmp_path):
    figure = figures_loss.gradient_curves(figures_loss.VARIANTS)
    loss, slope = figure.axes
    x = line(loss, "cross entropy").get_xdata()
    wanted = {
        "cross entropy": np.log1p(np.exp(-x)),
        "FL, γ = 2": np.log1p(np.exp(-x)) / (1 + np.exp(x)) ** 2,
        "FL*, γ = 2, β = 1": np.log1p(np.exp(-2 * x - 1)) / 2,
        "FL*, γ = 4, β = 0": np.log1p(np.exp(-4 * x)) / 4,
        "hinge on $p_t$": np.maximum(0, 0.5 - 1 / (1 + np.exp(-x))),
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(line(loss, name).get_ydata(), values, atol=1e-9)
        falls = -np.gradient(values, x)
        inner = np.abs(x) > 0.1  # the hinge has a kink at 0
        np.testing.assert_allclose(line(slope, name).get_ydata()[inner], falls[inner], atol=0.01)
    draw(figure, tmp_path)


def test_reliability(tmp_path):
    draw(figures_diagnostics.reliability({"CE": [], "FL": []}), tmp_path)
    half = {"right": [0] * 120 + [300] + [0] * 119, "wrong": [0] * 120 + [900] + [0] * 119}  # scores of .51
    kept = runs(lambda c: 30, ("1b",), 1, scores={"tune": half, "test": half})
    axes = figures_diagnostics.reliability({"FL": kept}).axes[0]
    assert any(t.get_text().startswith("FL (error 0.26") for t in axes.get_legend().get_texts())


# ---- cost


def test_steps_timed_in_turn_within_each_run():
    def steps(c, rng):
        noise = 1 + 10 * (c.gamma > 1)  # of the machine: the same for both sides of a run
        if not c.gamma:
            return None
        return {"own": (0.051 + 1e-5 * rng.random()) * noise, "cross_entropy": 0.050 * noise}

    v = statistics.training_speed(Evidence(study(runs(lambda c: 20.0, ("1b",), 1, step_seconds=steps))))
    assert v.value == pytest.approx(1.02, abs=2e-3) and v.high - v.low < 2e-3 and "6 runs" in v.how


def test_cost_without_a_record_of_it():
    of = Evidence(study(runs(lambda c: 20.0, ("1a",), 1)))
    assert statistics.training_speed(of) is None, "there is no focal loss to compare with"

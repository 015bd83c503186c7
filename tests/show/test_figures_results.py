"""Planes, sweeps and speeds: what is computed is right on known cases, and the figures show it."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from focalrepro import (
    cost,
    figure_of,
    figures,
    figures_diagnostics,
    figures_lines,
    figures_loss,
    narrate,
    paper,
    plane,
    report,
    results,
)
from focalrepro.study.ablations import (
    ABLATIONS,
    GRID_ALPHAS,
    GRID_GAMMAS,
    STAR_BETAS,
    STAR_GAMMAS,
    get_ablation,
)
from focalrepro.study.profiles import PROFILES

BASE = PROFILES["smoke"].base


def record(config, ap, resampled=None, status="done", **extra):
    """A run of the smoke profile, made up."""
    return {
        "run_id": f"{abs(hash(config)):012x}"[:12],
        "status": status,
        "config": config.as_dict(),
        "metrics": dict.fromkeys(results.METRICS, ap),
        "bootstrap": {"AP": resampled if resampled is not None else [0.9 * ap, ap, 1.1 * ap]},
        "data": {"train": {"images": 1000}},
        "anchors": {"per_image": 12_000, "positive_per_image": 6.0},
        "images_per_second": 100.0,
        "hardware": {"cpu": "a CPU", "threads": 1},
        **extra,
    }


def runs(name, ap, seeds=(0,), **extra):
    """One record per row and seed of an ablation; ap(config) None leaves the row out, "x" makes it diverge."""
    found = []
    for config in get_ablation(name).configs(BASE, list(seeds)).values():
        value = ap(config)
        if value == "x":
            found.append(record(config, 0.0, status="diverged", **extra))
        elif value is not None:
            found.append(record(config, value, **extra))
    return found


def draw(figure, tmp_path):
    """Every text is legible, the file is written and pyplot keeps no reference."""
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert min(t.get_fontsize() for t in figure.findobj(matplotlib.text.Text) if t.get_text()) >= 9
    assert not plt.get_fignums()


def line(axes, label):
    return next(x for x in axes.get_lines() if x.get_label() == label)


def test_best_shares_of_a_known_case():
    resampled = {0.25: [1.0, 5.0, 5.0, 0.0], 0.5: [2.0, 4.0, 5.0, 0.0]}  # wins: .5, .25, a tie, none
    found = [
        record(config, 3.0, resampled[config.alpha])
        for config in get_ablation("grid").configs(BASE, [0]).values()
        if (config.gamma == 1 and config.alpha in resampled) or (config.gamma == 2 and config.alpha == 0.25)
    ]
    shares = plane.best_shares(results.select(found, "smoke", "grid"), "grid")
    assert tuple(shares.columns) == GRID_GAMMAS and tuple(shares.index) == GRID_ALPHAS
    assert shares[1.0].dropna().to_dict() == {0.25: 0.375, 0.5: 0.375}
    assert shares.drop(columns=1.0).isna().all(axis=None)  # one cell alone is no contest


def test_best_shares_averages_seeds():
    configs = get_ablation("plane").configs(BASE, [0, 1])
    ap = {(0.0, 0): 1.0, (0.0, 1): 9.0, (1.0, 0): 4.0, (1.0, 1): 4.0}  # of (β, seed): 5 against 4
    found = [
        record(c, ap[c.beta, c.seed], [ap[c.beta, c.seed]] * 3)
        for c in configs.values()
        if c.gamma == 2 and (c.beta, c.seed) in ap
    ]
    shares = plane.best_shares(results.select(found, "smoke", "plane"), "plane", y="beta")
    assert shares[2.0].dropna().to_dict() == {0.0: 1.0, 1.0: 0.0}


def test_the_ridge_follows_the_best_alpha(tmp_path):
    best = dict(zip(GRID_GAMMAS, (0.9, 0.75, 0.75, 0.5, 0.25, 0.25, None), strict=True))
    found = runs("grid", lambda c: 0.0 if best[c.gamma] is None else 30.0 - abs(c.alpha - best[c.gamma]))
    frame = results.table(found, "smoke", "grid")
    shares = plane.best_shares(results.select(found, "smoke", "grid"), "grid")
    theirs = [(row.fields["gamma"], row.fields["alpha"]) for row in paper.TABLES["1b"]]
    figure = figures.heatmap(frame, shares=shares, theirs=theirs)
    x, y = line(figure.axes[0], "best α for each γ").get_data()
    assert [(GRID_GAMMAS[int(a)], GRID_ALPHAS[int(b)]) for a, b in zip(x, y, strict=True)] == [
        (gamma, alpha)
        for gamma, alpha in best.items()
        if alpha  # nothing is detected at γ = 5
    ]
    assert len(line(figure.axes[0], "the paper's").get_xdata()) == 7
    shown = {t.get_text() for t in figure.axes[0].texts}
    assert "30.0\n100%" in shown and "0.0\n0%" in shown
    draw(figure, tmp_path)


def test_plane_of_the_variant_has_its_own_axes(tmp_path):
    found = runs("plane", lambda c: None if c.gamma == 4 else 20 + c.beta)
    figure = figure_of.figure_of("plane", results.table(found, "smoke", "plane"), "")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("γ", "β")
    assert len(axes.texts) == len(STAR_GAMMAS) * len(STAR_BETAS)
    x, y = line(axes, "best β for each γ").get_data()
    assert [int(a) for a in x] == [0, 1] and {STAR_BETAS[int(b)] for b in y} == {2.0}
    draw(figure, tmp_path)


def test_sweep_of_the_prior(tmp_path):
    found = runs(
        "prior", lambda c: "x" if c.gamma == 0 and c.prior == 0.5 else None if c.prior == 0.1 else 20.0
    )
    figure = figure_of.figure_of("prior", results.table(found, "smoke", "prior"), "prior")
    axes = figure.axes[0]
    _, labels = axes.get_legend_handles_labels()
    assert set(labels) == {"CE", "FL", "diverged"}
    crosses = [x for x in axes.get_lines() if x.get_marker() == "X" and len(x.get_xdata())]
    assert len(crosses) == 1
    assert crosses[0].get_xdata() == pytest.approx(0.5, rel=0.05) and crosses[0].get_ydata() == 0
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.001", "0.01", "0.1", "0.5"]
    draw(figure, tmp_path)


def test_sweep_of_the_data_counts_images(tmp_path):
    frame = results.table(runs("data", lambda c: 10 + 10 * c.train_fraction), "smoke", "data")
    assert frame["images"].tolist() == 2 * [120, 250, 500, 1000]
    axes = figure_of.figure_of("data", frame, "data").axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["120", "250", "500", "1,000"]
    drawn = [x for x in axes.get_lines() if x.get_marker() in "os" and len(x.get_xdata()) == 4]
    assert len(drawn) == 2 and all((np.diff(x.get_ydata()) > 0).all() for x in drawn)
    draw(figures_lines.sweep(frame, "images", "training images"), tmp_path)


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_every_ablation_has_a_figure_without_runs(name, tmp_path):
    draw(figure_of.figure_of(name, results.table([], "quick", name), "title"), tmp_path)


@pytest.mark.parametrize("stem", ["plane", "grid-paper", "prior", "1a"])
def test_the_report_draws_it(stem, tmp_path):
    name = stem.split("-")[0]
    frame, found = results.table([], "smoke", name), results.select([], "smoke", name)
    figure = figure_of.figure_of(name, frame, "title", found)
    assert report._figure(tmp_path, stem, figure) == f"figures/{stem}.png"
    assert (tmp_path / "figures" / f"{stem}.png").stat().st_size > 1000


def test_variant_curves_are_the_trained_losses(tmp_path):
    figure = figures_loss.variant_curves()
    loss, slope = figure.axes
    x = line(loss, "cross entropy").get_xdata()
    wanted = {
        "cross entropy": np.log1p(np.exp(-x)),
        "FL, γ = 2": np.log1p(np.exp(-x)) / (1 + np.exp(x)) ** 2,
        "FL*, γ = 2, β = 1": np.log1p(np.exp(-2 * x - 1)) / 2,
        "FL*, γ = 4, β = 0": np.log1p(np.exp(-4 * x)) / 4,
        "hinge on p_t": np.maximum(0, 0.5 - 1 / (1 + np.exp(-x))),
    }
    for name, values in wanted.items():
        np.testing.assert_allclose(line(loss, name).get_ydata(), values, atol=1e-9)
        falls = -np.gradient(values, x)
        inner = np.abs(x) > 0.1  # the hinge has a kink at 0
        np.testing.assert_allclose(line(slope, name).get_ydata()[inner], falls[inner], atol=0.01)
    draw(figure, tmp_path)


def test_cost_compares_like_with_like(tmp_path):
    seeds = (0, 1, 2)
    found = runs("1a", lambda c: 20.0, seeds) + runs("1b", lambda c: None if c.gamma == 0 else 20.0, seeds)
    for i, r in enumerate(found):
        focal, load = r["config"]["gamma"] > 0, 1 + r["config"]["seed"]  # the machine is slower seed by seed
        r["images_per_second"] = (50.0 if focal else 100.0) * (1 + 0.01 * (i % 2)) / load
        if i % 3 < 2:
            r["inference_ms"] = (20.0 + i % 2) * load
    found[0]["hardware"] = {"cpu": "another CPU", "threads": 1}
    found[0]["images_per_second"] = 9999.0
    found[1]["status"] = "diverged"
    frame = cost.speeds(found, "smoke")
    assert (frame["loss"] == cost.CE).sum() == 19 and (frame["loss"] == cost.FL).sum() == 18
    training = cost.ratio(frame, cost.TRAINING)
    assert training.ratio == pytest.approx(0.5, rel=0.01) and training.low < 0.5 < training.high < 0.51
    assert training.runs == 37
    shown = cost.table(frame)
    assert "0.50 (" in shown.loc[cost.TRAINING].iloc[-1]
    draw(figures_diagnostics.speed(frame), tmp_path)


def test_inference_is_compared_among_detectors_that_work():
    found = runs("1a", lambda c: 20.0 if c.alpha == 0.75 else 1.0, (0, 1))
    found += runs("1b", lambda c: None if c.gamma == 0 else 20.0, (0, 1))
    for r in found:
        r["inference_ms"] = 10.0 if r["metrics"]["AP"] > 5 else 1000.0
    kept = cost.ratio(cost.speeds(found, "smoke"), cost.INFERENCE)
    assert kept.ratio == pytest.approx(1.0) and kept.runs == 14


def test_steps_timed_in_turn_within_each_run():
    found = runs("1b", lambda c: 20.0)
    assert "None of these runs" in cost.step_text(found, "smoke")
    for i, r in enumerate(found):
        focal = r["config"]["gamma"] > 0
        noise = 1 + 10 * (i % 2)  # of the machine: the same for both sides of a run
        r["step_seconds"] = (
            {"own": (0.051 + 1e-5 * i) * noise, "cross_entropy": 0.050 * noise} if focal else None
        )
    ratio = cost.step_ratio(found, "smoke")
    assert ratio.ratio == pytest.approx(1.02, abs=2e-3) and ratio.high - ratio.low < 2e-3 and ratio.runs == 6
    assert "1.02" in cost.step_text(found, "smoke")


def test_cost_without_a_record_of_inference(tmp_path):
    frame = cost.speeds(runs("1a", lambda c: 20.0), "smoke")
    assert cost.ratio(frame, cost.TRAINING) is None  # no focal loss to compare with
    assert (cost.table(frame).loc[cost.INFERENCE, [cost.CE, cost.FL]] == "no record").all()
    figure = figures_diagnostics.speed(frame)
    assert "no run has a record of it" in [t.get_text() for t in figure.axes[1].texts]
    draw(figure, tmp_path)
    draw(figures_diagnostics.speed(cost.speeds([], "smoke")), tmp_path)


def test_reliability_without_runs(tmp_path):
    draw(figures_diagnostics.reliability({"CE": [], "FL": []}), tmp_path)


def test_verdicts_are_those_of_the_tables(monkeypatch):
    monkeypatch.setattr(results, "records_or_committed", lambda *_: [])
    shown = narrate.verdicts("smoke", "1d", "3")
    assert "beats the best of OHEM" in shown and "FL* ties" in shown
    assert "π" not in shown and "**confirmed**" not in shown
    assert shown.count("**not run**") == len(shown.splitlines()) - 2 >= 3

"""Figures draw what they are given, also where rows are missing or diverged; words follow the numbers."""

from itertools import combinations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from legible import draw
from made_up import record, study

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.evaluation.detections import Detections
from focalrepro.evaluation.measures import examples
from focalrepro.evaluation.precision_recall import curves, median_class
from focalrepro.evidence.anchor_statistics import measure
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import table
from focalrepro.show import (
    figures_loss,
    figures_results,
    figures_rows,
    figures_scenes,
    one_run,
    sentences,
    tables,
)
from focalrepro.study.ablations import GRID_ALPHAS, GRID_GAMMAS
from focalrepro.study.profiles import PROFILES, get_profile

CONFIG = RunConfig(image_size=64, first_level=3, last_level=4, anchor_size=2.0)


def nothing(profile, name):
    return table(Evidence(study([], profile)), name)


def frame_of(name, ap):
    """`tables.table` with AP set by hand: a list with None for a row without runs, "x" for a diverged one."""
    frame = nothing("smoke", name)
    for i, value in enumerate(ap):
        if value is None:
            continue
        number = 0.0 if value == "x" else value
        frame.loc[i, ["AP", "low", "high"]] = [number, max(number - 1, 0), number + 1]
        frame.loc[i, "seeds"] = 1
        frame.loc[i, "diverged"] = int(value == "x")
    return frame


MIXED = ["x", 10.0, 30.0, None, 32.0, 28.0, 25.0]


@pytest.fixture
def data():
    boxes = np.zeros((3, 2, 4), np.float32)
    labels = np.full((3, 2), -1)
    boxes[0] = [[8, 8, 24, 24], [30, 30, 60, 62]]
    boxes[1, 0] = [10, 20, 40, 44]
    labels[0], labels[1, 0] = [0, 1], 1
    annotations = [
        {"id": n + 1, "image_id": i + 1, "category_id": int(labels[i, j]) + 1, "iscrowd": 0,
         "bbox": [float(v) for v in (*boxes[i, j, :2], *(boxes[i, j, 2:] - boxes[i, j, :2]))],
         "area": float(np.prod(boxes[i, j, 2:] - boxes[i, j, :2]))}
        for n, (i, j) in enumerate(zip(*np.nonzero(labels >= 0), strict=True))
    ]  # fmt: skip
    return DetectionData(
        name="photos",
        split="val",
        images=np.random.default_rng(0).integers(0, 255, (3, 3, 64, 64), dtype=np.uint8),
        boxes=boxes,
        labels=labels,
        sizes=np.full((3, 2), 64, np.float32),
        image_ids=np.arange(1, 4),
        categories=("cat", "dog"),
        coco={
            "images": [{"id": i, "width": 64, "height": 64, "file_name": f"{i}.png"} for i in (1, 2, 3)],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": annotations,
        },
        digest="",
    )


@pytest.fixture
def found():
    return Detections(
        image_index=np.array([0, 0, 1, 1]),
        boxes=np.array([[8, 8, 24, 24], [30, 30, 60, 60], [0, 0, 9, 9], [10, 20, 40, 44]], np.float32),
        scores=np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        labels=np.array([0, 1, 1, 1]),
    )


def texts(axes):
    return [t.get_text() for t in axes.texts]


def test_ablation_shows_what_is_missing_and_what_diverged(tmp_path):
    figure = figures_rows.ablation(frame_of("1a", MIXED), "Table 1a")
    ours, theirs = figure.axes
    assert texts(ours) == ["diverged", "10.0", "30.0", "32.0", "28.0", "25.0", "not run"]
    assert texts(theirs) == ["0.0", "10.8", "30.2", "31.1", "30.8", "28.7", "25.1"]
    draw(figure, tmp_path)


def test_ablation_without_runs_and_without_the_paper(tmp_path):
    draw(figures_rows.ablation(nothing("smoke", "1b"), "no runs"), tmp_path)
    figure = figures_rows.ablation(frame_of("grid", [20.0] * 49), "grid")
    assert len(figure.axes) == 1
    draw(figure, tmp_path)


@pytest.mark.parametrize("ap", [[None] * 49, ["x", None, *range(47)], [0.0] * 49])
def test_heatmap(tmp_path, ap):
    nobody = frame_of("grid", ap).pivot(index="alpha", columns="gamma", values="AP") > 99
    figure = figures_results.heatmaps(frame_of("grid", ap), "gamma", "alpha", lambda measure: nobody)
    shown = texts(figure.axes[0])
    assert len(shown) == len(GRID_GAMMAS) * len(GRID_ALPHAS)
    assert shown.count("–") == ap.count(None)
    assert shown.count("div.") == ap.count("x")
    draw(figure, tmp_path)


def test_training_curves(tmp_path):
    history = {"step": [1, 2], "class_loss": [2.0, 1.0], "box_loss": [0.5, 0.4]}
    done, lost = record(history=history), record(history=history, status="diverged")
    figure = figures_results.training_curves({"a": [done], "b": [], "c": [lost]}, "title")
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert labels == ["a", "c (diverged)"]
    draw(figure, tmp_path)
    draw(figures_results.training_curves({"a": []}), tmp_path)


def test_loss_figures(tmp_path):
    curves = figures_loss.loss_curves().axes[0].get_lines()
    p_t, cross_entropy = curves[0].get_data()
    np.testing.assert_allclose(cross_entropy, -np.log(p_t))
    np.testing.assert_allclose(curves[3].get_ydata(), -((1 - p_t) ** 2) * np.log(p_t))
    slope = figures_loss.gradient_curves().axes[1].get_lines()[0]
    np.testing.assert_allclose(slope.get_ydata(), 1 / (1 + np.exp(slope.get_xdata())))
    cells = texts(figures_loss.weight_map((0.0, 2.0), (0.25, 0.5)).axes[0])
    assert cells == ["0.33", "2,700", "1", "8,100"]
    assert "6.6·10⁸" in texts(figures_loss.weight_map(GRID_GAMMAS, GRID_ALPHAS).axes[0])
    for figure in (figures_loss.loss_curves(), figures_loss.gradient_curves()):
        draw(figure, tmp_path)
    draw(figures_loss.weight_map(GRID_GAMMAS, GRID_ALPHAS), tmp_path)


def test_the_sliders_of_a_notebook_show_a_figure(monkeypatch):
    """ipywidgets shows what the callback returns; a figure that is drawn and closed is lost."""
    asked = {}

    def interact(**dials):
        return lambda draw: asked.update(dials=dials, draw=draw)

    monkeypatch.setattr("ipywidgets.interact", interact)
    monkeypatch.setenv(figures_loss.HEADLESS, "1")
    assert len(figures_loss.slider().axes) == 1 and not asked, "nobody watches: the paper's figure"
    monkeypatch.delenv(figures_loss.HEADLESS)
    figures_loss.slider()
    figure = asked["draw"](gamma=3.0)
    assert "γ = 3" in [line.get_label() for line in figure.axes[0].get_lines()]
    assert figure.get_suptitle() == "objects × 0.25, background × 0.75" and set(asked["dials"]) == {
        "gamma",
        "alpha",
    }


def test_what_a_threshold_costs_is_said_of_runs_that_have_an_ap():
    none = record(metrics={"AP": None}, thresholds={"0.05": None, "0.5": None})
    assert sentences.cut_costs({"CE": [none], "FL": []}) == ""
    known = record(ap=30.0, thresholds={"0.05": 28.0, "0.5": 10.0})
    said = sentences.cut_costs({"CE": [none, known], "FL": [none]})
    assert (
        said
        == "Dropping scores costs AP; those of less than 0.05: CE: 2.0; those of less than 0.5: CE: 20.0."
    )


def test_photos_stay_away_when_asked(data, found, tmp_path):
    kept = record(examples=examples(data, np.arange(len(data)), found))
    for show in (True, False):
        for figure in (
            figures_scenes.scenes(data, range(3), show),
            figures_scenes.anchors_at(data, 0, CONFIG, show),
            figures_scenes.matching(data, 1, CONFIG, show),
            figures_scenes.detections(data, {"CE": kept, "FL": kept}, show_photos=show),
        ):
            pictures = [image.get_array() for axes in figure.axes for image in axes.images]
            assert pictures
            assert all((np.ptp(picture) == 0) != show for picture in pictures)
    draw(figure, tmp_path)


def test_images_without_objects(data):
    figures_scenes.anchors_at(data, 2, CONFIG)
    with pytest.raises(ValueError, match="no object"):
        figures_scenes.matching(data, 2, CONFIG)
    assert figures_scenes.example(data) == 0
    nothing = record(examples=examples(data, np.arange(len(data)), Detections.empty()))
    assert len(figures_scenes.detections(data, {"FL": nothing}).axes) == 2 * len(data)
    assert figures_scenes.detections(data, {"FL": nothing, "CE": record()}) is None


def test_imbalance_and_precision_recall(data, found, tmp_path):
    draw(figures_scenes.imbalance(measure(data, CONFIG)), tmp_path)
    loose, *_, strict = curves(data, found, "dog")
    assert loose.objects == 2
    np.testing.assert_allclose(loose.precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(loose.recall, [1 / 2, 1 / 2, 1])
    np.testing.assert_allclose(strict.recall[-1], 1)
    assert median_class(data, found) in data.categories
    with pytest.raises(ValueError, match="cat, dog"):
        curves(data, found, "cow")
    draw(figures_scenes.precision_recall([loose, strict]), tmp_path)
    assert loose.ap == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)
    assert figures_scenes.precision_recall(curves(data, Detections.empty(), "cat")) is None


def test_words_follow_the_numbers():
    said = sentences.summary(frame_of("1a", MIXED))
    assert "**α = 0.9** with AP 32.0 (31.0\u00a0…\u00a033.0)" in said
    assert "**α = 0.75** with 31.1" in said
    assert sentences.summary(frame_of("1a", [None] * 6 + [1.0])) == "", "one row alone is no comparison"
    assert list(tables.comparison(frame_of("1a", [None] * 6 + [1.0]))["note"]) == ["not run"] * 6 + [""]
    assert "No row detects anything" in sentences.summary(frame_of("1a", [0.0] * 7))
    shown = tables.comparison(frame_of("1a", MIXED))
    assert shown.loc["α = 0.75", "note"] == "not run"
    assert shown.loc["α = 0.1", "note"] == "1 of 1 diverged"
    assert shown.loc["α = 0.75", "AP"] == "–"
    assert tables.provenance([]).empty


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_notebooks_open_without_any_run(profile, monkeypatch, tmp_path):
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path))
    empty, names = study([], profile), get_profile(profile).ablations
    assert f"`focalrepro run {' '.join(names)} --profile {profile}`" in sentences.where_from(empty, *names)
    assert tables.gains(Evidence(empty), "1a", "α = 0.5").empty
    assert "dataset" in tables.recipe_changes(empty).index
    with pytest.raises(ValueError, match="no row"):
        tables.gains(Evidence(empty), "1a", "α = 7")


def test_every_box_has_its_name_which_hides_no_other_and_stays_in_the_frame(tiny):
    data = tiny[0]
    f = data.frame
    at = {"one": (0.1, 0.4), "two": (0.12, 0.41), "below": (0.1, 0.9), "at the edge": (0.97, 0.4)}
    at |= {f"{i} in the crowd": (0.5, 0.5) for i in range(5)}
    drawn = [((x * f, y * f, (x + 0.02) * f, (y + 0.05) * f), "red", name) for name, (x, y) in at.items()]
    (axes,) = figures_scenes.pictures(data, [(0, "", drawn)], 1).axes
    assert len(axes.patches) == len(at), "each box is drawn"
    assert [text.get_text() for text in axes.texts] == list(at)
    axes.figure.canvas.draw()
    places = [t.get_window_extent() for t in axes.texts]
    ends = [axes.transData.inverted().transform(place)[:, 0] for place in places]
    assert all(left >= 0 and right <= f for left, right in ends), ends
    assert not [1 for one, other in combinations(places, 2) if one.overlaps(other)]


def test_where_the_loss_of_an_image_lies(tiny, tmp_path):
    config, data = get_profile("smoke").base, tiny[0]
    row = figures_scenes.example(data)
    losses = {"CE": {"gamma": 0.0, "alpha": 0.5}, "FL": {"gamma": 2.0, "alpha": 0.25}}
    maps = one_run.loss_maps(config, data, row, losses, [0, 1])
    plain, focal = (maps[name][0].on_objects for name in ("CE", "FL"))
    # At π = .01 background costs little, and focal loss takes that away as well.
    assert 0 < plain < focal <= 1 and focal > 0.99
    shares = one_run.background(maps)
    assert list(shares.columns) == ["step 0", "step 1"] and shares.loc["FL", "step 0"] < 10
    assert (
        shares.loc["CE", "step 0"] > 50 and one_run.background(maps, gradient=True).loc["CE", "step 0"] > 50
    )
    figure = figures_scenes.loss_on_image(data, row, maps)
    assert f"{plain:.0%} on objects' anchors" in figure.axes[0].get_title()
    draw(figure, tmp_path)


def test_demonstration_is_short_where_a_cpu_would_take_long(monkeypatch):
    monkeypatch.setattr(one_run.hardware, "pick_device", lambda _: torch.device("cpu"))
    assert one_run.short_config("quick") == get_profile("quick").base
    assert one_run.short_config("quick", 20).steps == 20
    assert one_run.short_config("quick", 3000).steps == 3000, "nor is a longer training cut"
    with pytest.raises(ValueError, match="steps is '60'; it must be 1 or more, or 0 for 1000"):
        one_run.short_config("quick", "60")
    for profile, steps in (("coco-cpu", 60), ("coco256", 10)):
        short = one_run.short_config(profile)
        assert (short.steps, short.train_images) == (steps, 120)
        assert one_run.short_config(profile, 5).steps == 5
    monkeypatch.setattr(one_run.hardware, "pick_device", lambda _: torch.device("cuda"))
    assert one_run.short_config("coco256") == get_profile("coco256").base

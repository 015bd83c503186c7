"""The gain by class: paired, counted and said plainly, also where the data cannot answer."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from made_up import changed, record
from scipy import stats

from focalrepro.evidence import per_class
from focalrepro.show import figures_diagnostics
from focalrepro.show.sentences import class_trend
from focalrepro.study.profiles import PROFILES

BASE = PROFILES["smoke"].base


def draw(figure, tmp_path):
    """Every text is legible and the file is written."""
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert min(t.get_fontsize() for t in figure.findobj(matplotlib.text.Text) if t.get_text()) >= 9


def of_classes(seed, ap):
    mean = np.mean([value for value in ap.values() if value is not None])
    return record(BASE.replace(seed=seed), float(mean), per_class=ap)


OBJECTS = {"a": 1000, "b": 100, "c": 10, "d": 5, "e": 2, "f": 1, "unseen": 50}
NAMES = "abcdef"


def test_gain_by_class_is_paired_by_seed():
    one = [of_classes(0, {"a": 10.0, "b": 20.0}), of_classes(1, {"a": 30.0, "b": 20.0})]
    other = [of_classes(1, {"a": 31.0, "b": 25.0, "unseen": None}), of_classes(7, {"a": 99.0, "b": 0.0})]
    frame = per_class.by_class(one, other, OBJECTS)
    assert list(frame.index) == ["b", "a"]  # rarest first
    assert frame["gain"].tolist() == [5.0, 1.0] and frame["seeds"].tolist() == [1, 1]
    both = per_class.by_class(one, [of_classes(0, {"a": 14.0}), of_classes(1, {"a": 31.0})], OBJECTS)
    assert both.loc["a", ["gain", "least", "most", "seeds"]].tolist() == [2.5, 1.0, 4.0, 2]
    elsewhere = [changed(r, hardware={"device": "cuda:0"}) for r in one]
    assert per_class.by_class(one, elsewhere, OBJECTS).empty, "the machine would differ, too"
    assert per_class.by_class(one, [], OBJECTS).empty
    assert per_class.by_class(one, other, {}).empty


@pytest.mark.parametrize(
    ("gains", "says"),
    [
        ((0, 1, 2, 3, 4, 5), "rare classes gain more"),
        ((5, 4, 3, 2, 1, 0), "frequent classes gain more"),
        ((0, 5, 1, 4, 2, 3), "no trend"),
        ((1, 1, 1, 1, 1, 1), "no gain by class"),
    ],
)
def test_trend_is_said_plainly(gains, says, tmp_path):
    one = [of_classes(0, dict.fromkeys(NAMES, 10.0))]
    other = [of_classes(0, {n: 10.0 + g for n, g in zip(NAMES, gains, strict=True)})]
    frame = per_class.by_class(one, other, OBJECTS)
    assert says in class_trend(frame)
    figure = figures_diagnostics.by_frequency(frame, "CE", "FL")
    at = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert at == [f"{name}, {count:,}" for name, count in frame["objects"].items()], "the rarest first"
    assert figure.axes[0].get_ylabel() == "class, and its objects in training"
    assert [t.get_text() for t in figure.axes[0].texts] == [f"{g:+.1f}" for g in frame["gain"]]
    draw(figure, tmp_path)


def test_equally_frequent_classes_cannot_answer():
    one = [of_classes(0, dict.fromkeys(NAMES, 10.0))]
    other = [of_classes(0, {n: 10.0 + i for i, n in enumerate(NAMES)})]
    frame = per_class.by_class(one, other, {n: 100 + i for i, n in enumerate(NAMES)})
    v = per_class.trend(frame)
    assert v.word == "undecided" and v.low > 0 and "1.1 times" in v.remark


def test_trend_agrees_with_scipy_and_keeps_to_its_bounds():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"objects": rng.integers(1, 999, 40), "gain": rng.normal(size=40)})
    v = per_class.trend(frame)
    assert v.value == pytest.approx(frame["objects"].corr(frame["gain"], method="spearman"))
    assert -1 <= v.low < v.value < v.high <= 1 and v == per_class.trend(frame)
    drawn = np.random.default_rng(0).integers(0, 40, (2000, 40))
    each = [stats.spearmanr(frame["objects"].iloc[i], frame["gain"].iloc[i]).statistic for i in drawn[:50]]
    assert abs(np.median(each) - v.value) < 0.15 and v.low - 0.3 < min(each) < max(each) < v.high + 0.3


def test_many_classes_all_have_their_line(tmp_path):
    names = [f"class {i}" for i in range(80)]
    one = [of_classes(s, dict.fromkeys(names, 10.0)) for s in (0, 1)]
    other = [of_classes(s, {n: 10.0 + i + s for i, n in enumerate(names)}) for s in (0, 1)]
    frame = per_class.by_class(one, other, {n: 3 * i for i, n in enumerate(names)})
    figure = figures_diagnostics.by_frequency(frame, "CE", "FL")
    at = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert at == [f"class {i}, {3 * i}" for i in range(80)]
    draw(figure, tmp_path)


def test_no_classes_to_show(tmp_path):
    draw(figures_diagnostics.by_frequency(per_class.by_class([], [], OBJECTS), "CE", "FL"), tmp_path)


def test_objects_are_counted_on_the_training_split(tiny, data_root):
    counted = per_class.training_objects(BASE.replace(train_images=0))
    assert sum(counted.values()) == len(tiny[0].coco["annotations"])
    assert list(counted) == list(tiny[0].categories)
    assert per_class.training_objects(BASE.replace(dataset="coco256")) == {}  # not prepared in this data root

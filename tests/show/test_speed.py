"""Table 1e: rows that fit the baseline, the table's times, and the figure's points."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from made_up import runs, study

from focalrepro.detector.backbones import BACKBONES, make_backbone
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import runs_frame, table
from focalrepro.show import figures_results, tables
from focalrepro.study.ablations import get_ablation, plan
from focalrepro.study.paper import TABLES
from focalrepro.study.profiles import PROFILES
from focalrepro.training.batches import config_anchors
from focalrepro.training.pretrain import CropClassifier

QUICK = PROFILES["quick"].base

pytestmark = pytest.mark.usefixtures("nothing_committed")


def labels(profile):
    return [row.label for row in get_ablation("1e").rows_for(PROFILES[profile].base)]


def test_rows_fit_the_profile():
    assert labels("quick")[:3] == ["small, 64²", "small, 96²", "small, 128²"]
    assert labels("quick")[3:6] == ["small_deep, 64²", "small_deep, 96²", "small_deep, 128²"]
    assert labels("quick")[6:] == ["Faster R-CNN FPN (two-stage), small, 96²"]
    assert labels("smoke")[:6] == labels("quick")[:6]
    for profile in ("coco-cpu", "coco256"):
        assert labels(profile) == [
            *(f"resnet50v2, {side}²" for side in (128, 192, 256)),
            "Faster R-CNN FPN (two-stage), resnet50v2, 256²",
        ]
    for profile in PROFILES.values():
        configs = [p.config for p in plan(profile, ["1e"], 1)]
        assert profile.base in configs  # shared with the other tables
        assert all(len(config_anchors(c).boxes) for c in configs)


def test_the_deep_backbone_has_twice_the_convolutions_and_the_same_maps():
    small, deep = make_backbone("small"), make_backbone("small_deep")
    count = lambda net: sum(isinstance(m, torch.nn.Conv2d) for m in net.modules())  # noqa: E731
    assert (count(small), count(deep)) == (7, 14)
    assert small.channels == deep.channels and "small_deep" in BACKBONES
    maps = deep(torch.zeros(1, 3, 96, 96))
    assert {level: m.shape[-1] for level, m in maps.items()} == {2: 24, 3: 12, 4: 6}
    found = CropClassifier(deep.train())(torch.rand(2, 3, 48, 48))
    assert [(c.shape, e.shape) for c, e in found] == [((2, 11), (2, 4))] * 3
    with pytest.raises(ValueError, match="'digits' or 'none'"):
        make_backbone("small_deep", "imagenet")


# ---- made-up runs


def of_1e(timed=True):
    """AP rises with the size and the depth; the deep backbone has no run at 128²."""

    def ap(c):
        if (c.backbone, c.image_size) == ("small_deep", 128):
            return None
        return 30 + c.image_size / 32 + (c.backbone == "small_deep") - 5 * (c.detector == "faster_rcnn")

    def milliseconds(c, rng):
        return c.image_size / 10 + 20 * (c.detector == "faster_rcnn")

    return runs(ap, ("1e",), 3, 0.2, 0.5, "quick", inference_ms=milliseconds if timed else None)


def evidence(found):
    return Evidence(study(found, "quick"))


def frame_of(found):
    return table(evidence(found), "1e")


def drawn(axes):
    return sorted(round(x, 1) for line in axes.get_lines() if len(line.get_xdata()) for x in line.get_xdata())


def test_the_table_has_times_and_evidence_finds_rows():
    found = of_1e()
    frame = frame_of(found)
    assert frame.set_index("row").loc["small, 64²", "inference_ms"] == pytest.approx(6.4)
    assert frame["paper_AP"].isna().all()
    assert tables.comparison(frame).loc["small_deep, 128²", "note"] == "not run"
    e = evidence(found)
    assert {r.config.detector for r in e.row("1e", detector="faster_rcnn")} == {"faster_rcnn"}
    assert {r.config.image_size for r in e.row("1e", backbone="small", image_size=128)} == {128}
    listed = runs_frame(study(found, "quick"))
    assert listed["inference_ms"].notna().all() and len(listed) == 18


def test_the_figure_has_every_point():
    figure = figures_results.speed_accuracy(frame_of(of_1e()), "title")
    ours, theirs = figure.axes
    points = {6.4: 2, 9.6: 2, 12.8: 1, 29.6: 1}
    counted = drawn(ours)
    assert all(counted.count(x) >= n for x, n in points.items())
    assert {t.get_text() for t in ours.texts} == {"64", "96", "128"}
    assert set(drawn(theirs)) == {r.ms for r in TABLES["1e"]}
    assert len(theirs.texts) == len(TABLES["1e"])
    low, high = theirs.get_xlim()
    shown = [t.get_text() for t in theirs.get_xticklabels() if low <= t.get_position()[0] <= high]
    assert shown == ["70", "100", "150", "200"]
    names = [t.get_text() for t in ours.get_legend().get_texts()]
    assert names == ["RetinaNet, small", "RetinaNet, small_deep", "two stages, small"]
    sizes = [t.get_fontsize() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]
    assert min(sizes) >= 9 and not plt.get_fignums()


def test_a_report_counts_the_baselines_anchors():
    found = sorted(of_1e(), key=lambda r: r.config.detector)  # the two-stage detector's first
    typical = study(found, "quick").typical()
    assert (typical.config.detector, typical.config.image_size) == ("retinanet", QUICK.image_size)
    assert study(found[:1], "quick").typical() is found[0] and study([]).typical() is None

"""Table 1e: rows that fit the baseline, ids that stay, the figure's points; and what anchors can reach."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import focalrepro.config
from focalrepro import figures_tradeoff, narrate, reach, report, results, tradeoff
from focalrepro.config import from_dict
from focalrepro.detector import boxes as box_ops
from focalrepro.detector.backbones import BACKBONES, make_backbone
from focalrepro.evidence import Evidence
from focalrepro.runs import load_splits
from focalrepro.study.ablations import get_ablation, plan
from focalrepro.study.paper import TABLES
from focalrepro.study.profiles import PROFILES
from focalrepro.training.batches import config_anchors
from focalrepro.training.pretrain import CropClassifier

QUICK = PROFILES["quick"].base


def labels(profile):
    return [row.label for row in get_ablation("1e").rows_for(PROFILES[profile].base)]


def test_rows_fit_the_profile():
    assert labels("quick") == labels("smoke")
    assert labels("quick")[:3] == ["small, 96²", "small, 128²", "small, 160²"]
    assert labels("quick")[3:6] == ["small_deep, 96²", "small_deep, 128²", "small_deep, 160²"]
    assert labels("quick")[6:] == ["Faster R-CNN FPN (two-stage), small, 128²"]
    for profile in ("coco-cpu", "coco256"):
        assert labels(profile) == [
            *(f"resnet50v2, {side}²" for side in (128, 192, 256)),
            "Faster R-CNN FPN (two-stage), resnet50v2, 256²",
        ]
    for profile in PROFILES.values():
        configs = [p.config for p in plan(profile, ["1e"], 1)]
        assert profile.base in configs  # shared with the other tables
        assert all(len(config_anchors(c).boxes) for c in configs)


@pytest.mark.parametrize("profile", ["quick", "coco-cpu"])
def test_ids_of_committed_runs_stay(profile, monkeypatch):
    """New fields leave them as they are; only the version of the training code may part old runs from new."""
    paths = sorted((Path(__file__).parents[1] / "results" / profile / "runs").glob("*.json"))
    assert paths
    for path in paths:
        record = json.loads(path.read_text(encoding="utf-8"))
        monkeypatch.setattr(focalrepro.config, "TRAINING_VERSION", record["training_version"])
        digests = [record["data"][split]["digest"] for split in ("train", "val")]
        assert from_dict(record["config"]).run_id(*digests) == path.stem


def test_the_deep_backbone_has_twice_the_convolutions_and_the_same_maps():
    small, deep = make_backbone("small"), make_backbone("small_deep")
    count = lambda net: sum(isinstance(m, torch.nn.Conv2d) for m in net.modules())  # noqa: E731
    assert (count(small), count(deep)) == (7, 14)
    assert small.channels == deep.channels and "small_deep" in BACKBONES
    maps = deep(torch.zeros(1, 3, 96, 96))
    assert {level: m.shape[-1] for level, m in maps.items()} == {2: 24, 3: 12, 4: 6}
    logits = CropClassifier(deep.train(), 11)(torch.rand(2, 3, 48, 48))
    assert [x.shape for x in logits] == [(2, 11)] * 3
    with pytest.raises(ValueError, match="'crops' or 'none'"):
        make_backbone("small_deep", "imagenet")


# ---- made-up runs


def records(seeds=3, skip="small_deep, 160²", timed=True):
    rng = np.random.default_rng(0)
    images = rng.normal(0, 0.5, 200)
    found = []
    for (label, _), c in get_ablation("1e").configs(QUICK, range(seeds)).items():
        if label == skip:
            continue
        two_stage = c.detector == "faster_rcnn"
        ap = 30 + c.image_size / 32 + (c.backbone == "small_deep") - 5 * two_stage + rng.normal(0, 0.2)
        found.append(
            {
                "run_id": c.run_id("a", "b"),
                "status": "done",
                "config": c.as_dict(),
                "metrics": {"AP": ap, "AP50": ap, "AP75": ap, "APs": None, "APm": None, "APl": None},
                "bootstrap": {"AP": (ap + images).tolist()},
                "seconds": {"total": 1.0},
                "hardware": {"device": "cpu", "cpu": "none"},
            }
            | ({"inference_ms": c.image_size / 10 + 20 * two_stage} if timed else {})
        )
    return found


def frame_of(found):
    return results.table(found, "quick", "1e")


def drawn(axes):
    return sorted(round(x, 1) for line in axes.get_lines() if len(line.get_xdata()) for x in line.get_xdata())


def test_the_table_has_times_and_evidence_finds_rows():
    found = records()
    frame = frame_of(found)
    assert frame.set_index("row").loc["small, 96²", "inference_ms"] == pytest.approx(9.6)
    assert frame["paper_AP"].isna().all()
    assert narrate.comparison(frame, timed=True).loc["small, 96²", "ms per image"] == "9.6"
    assert narrate.comparison(frame, timed=True).loc["small_deep, 160²", "ms per image"] == "–"
    assert "| 9.6 |" in report.pipe_table(frame, timed=True) and "ms" not in report.pipe_table(frame)
    evidence = Evidence(found, "quick")
    two_stage = evidence.row("1e", detector="faster_rcnn")
    assert len(two_stage) == 3 and {r["config"]["detector"] for r in two_stage} == {"faster_rcnn"}
    (plain,) = {r["config"]["image_size"] for r in evidence.row("1e", backbone="small", image_size=160)}
    assert plain == 160
    runs = results.runs_frame(found, "quick")
    assert runs["inference_ms"].notna().all() and len(runs) == 18
    assert results.runs_frame(records(timed=False), "quick")["inference_ms"].isna().all()


def test_the_figure_has_every_point():
    figure = figures_tradeoff.speed_accuracy(frame_of(records()), "title")
    ours, theirs = figure.axes
    points = {9.6: 2, 12.8: 2, 16.0: 1, 32.8: 1}
    counted = drawn(ours)
    assert all(counted.count(x) >= n for x, n in points.items())
    assert {t.get_text() for t in ours.texts} == {"96²", "128²", "160²"}
    assert "without a time: 1 of 7" in ours.get_xlabel()
    assert set(drawn(theirs)) == {r.ms for r in TABLES["1e"]}
    assert len(theirs.texts) == len(TABLES["1e"])
    names = [t.get_text() for t in ours.get_legend().get_texts()]
    assert names == ["RetinaNet, small", "RetinaNet, small_deep", "Faster R-CNN FPN (two stages)"]
    sizes = [t.get_fontsize() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]
    assert min(sizes) >= 9 and not plt.get_fignums()


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_without_runs_it_says_so(profile, tmp_path):
    frame = results.table([], profile, "1e")
    figure = figures_tradeoff.speed_accuracy(frame)
    assert [t.get_text() for t in figure.axes[0].texts] == ["no runs yet"]
    figure.savefig(tmp_path / "figure.png")
    said = tradeoff.reading([], profile)
    assert "not run: " in said and "+5.2 AP" in said and "nan" not in said


def test_the_reading_follows_the_numbers():
    said = tradeoff.reading(records(), "quick")
    assert "small, 160² against small, 96²: +2." in said and "1.67 × the time" in said
    assert "not run: small_deep, 160²" in said
    line = next(line for line in said.splitlines() if "One stage" in line)
    assert "+5." in line and ", clear" in line and "0.39 × the time" in line
    assert "small_deep, 96²" in said.splitlines()[-1] and "Faster" not in said.splitlines()[-1]
    assert "× the time of an image" not in tradeoff.reading(records(timed=False), "quick")


def test_a_report_counts_the_baselines_anchors():
    found = sorted(records(), key=lambda r: r["config"]["detector"])  # the two-stage detector's first
    assert results.typical(found, "quick")["config"]["detector"] == "retinanet"
    assert results.typical(found, "quick")["config"]["image_size"] == QUICK.image_size
    assert results.typical(found[:1], "quick") is found[0]


# ---- reach


@pytest.mark.parametrize("profile", ["quick", "coco-cpu"])
def test_best_iou_is_that_of_all_anchors(profile):
    base = PROFILES[profile].base
    rng = np.random.default_rng(0)
    low = rng.uniform(0, base.image_size - 4, (300, 2))
    high = np.minimum(
        low + rng.uniform(3, base.image_size, (300, 2)) ** rng.uniform(0.4, 1, (300, 1)), base.image_size
    )
    boxes = np.concatenate([low, high], 1)
    for row in get_ablation("1c").rows_for(base):
        config = base.replace(**row.changes)
        anchors = config_anchors(config).boxes.double()
        brute = box_ops.pairwise_iou(anchors, torch.from_numpy(boxes)).amax(0).numpy()
        np.testing.assert_allclose(reach.best_iou(boxes, config), brute, atol=1e-5)


def test_reach_is_measured_for_every_row(data_root, tmp_path):
    data, _ = load_splits(PROFILES["smoke"].base)
    frame = reach.measure(data, "smoke", [])
    assert frame["anchors"].tolist() == [1344 * n for n in (1, 2, 3, 3, 6, 9, 12)]
    assert (frame["reach_40"] >= frame["reach_50"]).all() and frame["reach_50"].between(0, 100).all()
    assert frame["reach_50"].iloc[-1] > frame["reach_50"].iloc[0]
    assert list(reach.shown(frame)["AP"]) == ["–"] * 7
    assert "Too few rows" in reach.reading(frame) and "in the paper" in reach.reading(frame)
    figures_tradeoff.reach(frame).savefig(tmp_path / "figure.png")
    frame["AP"] = [20.0, 22, 23, 21, 25, 26, 27]
    frame["low"], frame["high"] = frame["AP"] - 1, frame["AP"] + 1
    assert "with AP here" in reach.reading(frame)
    left, ours, theirs = figures_tradeoff.reach(frame).axes
    assert len(drawn(ours)) >= 7 and len(drawn(theirs)) == 7 and len(left.get_lines()) == 2

"""The bench's arithmetic, and that each of its parts runs on a small case."""

import json

import pytest
import torch

from focalrepro.bench import evaluation, run, scaling, training
from focalrepro.bench.evaluation import made_up_detections, made_up_truth, pycocotools_ap, whole_evaluation
from focalrepro.bench.figure import cost_curves
from focalrepro.bench.limits import Limits
from focalrepro.bench.measure import Row, Spread, in_turn
from focalrepro.bench.page import write_page
from focalrepro.bench.scaling import Curve
from focalrepro.bench.training import training_flops
from focalrepro.config import RunConfig
from focalrepro.evaluation.coco_ap import evaluate_coco
from focalrepro.study.profiles import PROFILES

CPU = torch.device("cpu")


def row(what, ours, theirs, **changes):
    fields = {"against": "them", "unit": "s", "more_is_better": False, "goal": 2.0} | changes
    return Row(what=what, ours=Spread.of(ours), theirs=Spread.of(theirs), **fields)


def test_a_ratio_says_how_many_times_better_ours_is():
    assert row("a", [1.0, 2.0, 3.0], [6.0]).ratio == 3.0
    assert row("a", [200.0], [50.0], more_is_better=True).ratio == 4.0
    assert "ratio 3.0 (goal 2)" in run.line(row("a", [2.0], [6.0]))


def test_sides_are_measured_in_turn():
    calls = []
    in_turn(lambda: calls.append("a"), lambda: calls.append("b"), CPU, repeats=2)
    assert "".join(calls) == "ababab"


def test_a_whole_evaluation_is_its_parts_added():
    batches = evaluation.IMAGES / evaluation.BATCH
    whole = whole_evaluation(row("nms", [0.01], [0.04]), row("ap", [1.0], [40.0]))
    assert whole.ours.median == pytest.approx(0.01 * batches + 1.0)
    assert whole.theirs.high == pytest.approx(0.04 * batches + 40.0)


def test_made_up_detections_have_an_ap_that_both_evaluators_agree_on():
    truth = made_up_truth(30)
    detections, ids = made_up_detections(truth), torch.arange(30).numpy()
    ap = evaluate_coco(truth, ids, detections).metrics["AP"]
    assert 1 < ap < 99 and ap == pytest.approx(pycocotools_ap(truth, detections, ids), abs=1e-9)


def test_the_slope_of_a_curve():
    linear = Curve("x", "images", (1.0, 2.0, 4.0, 8.0), tuple(Spread.of([v]) for v in (5.0, 6.0, 12.0, 24.0)))
    assert linear.exponent == pytest.approx(1.0)
    axes = cost_curves([linear], "a machine").axes[0]
    assert "slope 1.00" in axes.get_legend().get_texts()[0].get_text()


def test_costs_are_measured(data_root, monkeypatch):
    monkeypatch.setattr(scaling, "CPU_BATCHES", (1, 2))
    monkeypatch.setattr(scaling, "CPU_SIZES", (64, 128))
    monkeypatch.setattr(scaling, "IMAGES", (10, 20))
    curves = scaling.training_curves(PROFILES["smoke"].base, CPU, repeats=1, steps=1)
    curves += scaling.evaluation_curves(repeats=1)
    assert [c.x for c in curves] == [(1, 2), (4096.0, 16384.0), (10, 20), (10, 20)]
    assert all(s.median > 0 for c in curves for s in c.y)


def test_the_record_is_kept_as_it_grows(data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path))
    monkeypatch.setattr(
        run, "ensure", lambda dataset: None
    )  # the whole dataset would replace the tests' tiny one
    monkeypatch.setattr(run, "measure_limits", lambda device: Limits(1.0, 10.0))
    monkeypatch.setattr(run, "bench_loss", lambda device, limits: row("loss", [1.0], [5.0]))
    monkeypatch.setattr(run, "bench_postprocessing", lambda device: row("nms", [1.0], [2.0]))

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "bench_ap", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run_bench("cpu")
    (file,) = (tmp_path / "bench").glob("*.json")
    kept = json.loads(file.read_text())
    assert [r["what"] for r in kept["rows"]] == ["loss", "nms"] and kept["rows"][0]["ratio"] == 5.0
    assert "ratio 5.0" in capsys.readouterr().out


def test_the_page_shows_every_machine(tmp_path):
    for name in ("one", "two"):
        record = {
            "hardware": {"cpu": name, "cores": 2, "torch": "2", "torchvision": "0", "commit": "abc"},
            "limits": {"teraflops": 1.0, "gigabytes": 10.0},
            "finished": "today",
            "rows": [row("loss", [1.0], [5.0], share=0.25, limit="copy bandwidth").as_dict()],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    (tmp_path / "two.png").touch()
    text = write_page(tmp_path).read_text()
    assert "## one, 2 cores" in text and "**5.0**" in text and "25% of the copy bandwidth" in text
    assert text.count("](two.png)") == 1 and "one.png" not in text


def test_the_page_words_a_record(tmp_path):
    """A record as it was written before the page had these words; it has no field for them."""
    rate = {"unit": "images/s", "more_is_better": True}
    rows = [
        row("COCO's metrics", [0.5], [40.0], note="AP apart by 0e+00"),
        row(
            "replicates",
            [9.345],
            [41747.1],
            against="a pycocotools evaluation for each (1,000 × one measured)",
        ),
        row("training at profile quick, 2 CPU cores", [250, 260.0, 270], [79.2], note="ours: 2 runs", **rate),
        row("training at profile coco-cpu, 2 CPU cores", [127.9], [7.3], **rate),
        row("2 runs at once, profile quick", [265.6], [190.8], **rate),
    ]
    record = {
        "hardware": {"cpu": "one", "cores": 2, "torch": "2", "torchvision": "0", "commit": "abc"},
        "limits": {"teraflops": 1.0, "gigabytes": 10.0},
        "finished": "today",
        "rows": [r.as_dict() for r in rows],
    }
    (tmp_path / "one.json").write_text(json.dumps(record))
    text = write_page(tmp_path).read_text()
    lines = {line.split(" | ")[0].lstrip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert (
        "goal" not in text
        and "share of the limit is" in text
        and "least and the greatest in brackets" in text
    )
    assert len({line.count("|") for line in lines.values()}) == 1
    assert "same AP" in lines["COCO's metrics"] and "0.5 (once)" in lines["COCO's metrics"]
    assert "**about 4,500** (extrapolated from one)" in lines["replicates"]
    quick, coco = (lines[f"training at profile {name}, 2 CPU cores"] for name in ("quick", "coco-cpu"))
    assert "260 (250 … 270)" in quick and "190.8 / 79.2 = **2.4**" in quick and "cached" not in quick
    assert "ours in bf16, torchvision's in fp32" in quick and "against one process" in quick
    assert "cached features of the frozen backbone" in coco and "like for like is not measured" in coco


def test_operations_of_a_known_network():
    """RetinaNet on ResNet-50 with 80 classes at 256² has 15.3 GMAC forward; training has twice that again at most."""
    config = RunConfig(weights="none", frozen="nothing")
    assert training_flops(config, 80) / 2e9 == pytest.approx(3 * 15.3, rel=0.03)
    assert training_flops(config.replace(frozen="stage1"), 80) < training_flops(config, 80)


def test_a_process_of_the_training_bench_gives_a_rate(data_root):
    (rate,) = training._processes("ours", "smoke", steps=2, count=1)
    assert rate > 0

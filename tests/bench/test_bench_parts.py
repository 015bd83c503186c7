"""Each part of the bench on a small case: both sides compute the same, and what is said of them is so."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from focalrepro.bench import evaluation, run, training
from focalrepro.bench.evaluation import made_up_case, pycocotools_ap, whole_evaluation
from focalrepro.bench.measure import row, spread
from focalrepro.bench.training import torchvision_twin, training_flops
from focalrepro.config import RunConfig
from focalrepro.data import DatasetError
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.evaluation.coco_ap import evaluate_coco
from focalrepro.study.profiles import PROFILES
from focalrepro.training.batches import config_anchors

CPU = torch.device("cpu")
SMOKE = PROFILES["smoke"].base
LIMITS = {"teraflops": 1.0, "gigabytes": 10.0}


def test_both_losses_have_the_same_gradient():
    logits, labels = training.make_batch(CPU, (2, 3000, 8))
    assert {-2, -1} < set(labels.unique().tolist())
    training.our_loss(logits, labels)
    mine = logits.grad.float()
    training.their_loss(logits, labels)
    torch.testing.assert_close(mine, logits.grad.float(), rtol=0.03, atol=1e-4)
    assert not mine[labels == -2].any()


def test_the_loss_needs_its_gradient_and_little_else():
    logits, labels = training.make_batch(CPU, (8, 12_276, 80))
    training.our_loss(logits, labels)  # the tables are made once
    assert 1.0 <= training.extra_memory(logits, labels) < 1.1


def test_the_share_is_of_reading_and_writing_the_logits_once():
    ((_, found),) = training.bench_loss(CPU, LIMITS, run.TRIAL)
    nbytes = 2 * np.prod(run.TRIAL.loss)
    assert found["share"] == pytest.approx(2 * nbytes / 10e9 / found["ours"]["median"])


def test_made_up_detections_have_an_ap_that_both_evaluators_agree_on():
    case = made_up_case(30)
    assert len(case[2]) == 3000 and len(case[0]["annotations"]) > 200
    ap = evaluate_coco(*case).metrics["AP"]
    assert 1 < ap < 99 and ap == pytest.approx(pycocotools_ap(*case), abs=1e-9)


def test_both_post_processings_find_the_same():
    ((_, found),) = evaluation.bench_selection(CPU, replace(run.TRIAL, decoded=2))
    assert found["note"] == "no score threshold; equal scores in 2 of 2 images" and found["ours"]["n"] == 2


def test_ap_that_differs_ends_the_bench(monkeypatch):
    monkeypatch.setattr(evaluation, "pycocotools_ap", lambda *case: 1.0)
    with pytest.raises(RuntimeError, match=r"is not pycocotools' 1\.0"):
        evaluation.coco_metrics(run.TRIAL)


def test_a_whole_evaluation_is_its_parts_added():
    parts = [
        row("a", "b", "s", spread([ours]), spread([theirs])) for ours, theirs in ((0.01, 0.04), (1.0, 40.0))
    ]
    _, whole = whole_evaluation(*parts, replace(run.TRIAL, images=160, decoded=16))
    assert whole["ours"]["median"] == pytest.approx(0.01 * 10 + 1.0)
    assert whole["theirs"]["high"] == pytest.approx(0.04 * 10 + 40.0)


def test_the_twin_has_the_layers_and_anchors_of_the_model():
    """In fp32 the outputs are equal, since the weights are."""
    torch.manual_seed(0)
    model = RetinaNet(SMOKE, 10).eval()
    twin = torchvision_twin(model, SMOKE, 10).eval()
    image = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
    with torch.no_grad():
        images, _ = twin.transform([image[0] / 255])
        maps = list(twin.backbone(images.tensors).values())
        theirs, mine = twin.head(maps), model(image)
        anchors = twin.anchor_generator(images, maps)[0]
    torch.testing.assert_close(mine[0], theirs["cls_logits"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mine[1], theirs["bbox_regression"], rtol=1e-4, atol=1e-4)
    assert anchors.shape == config_anchors(SMOKE).boxes.shape


def test_operations_of_a_known_network():
    """RetinaNet, ResNet-50, 80 classes, 256²: 15.3 GMAC forward; backward twice that again at most."""
    config = RunConfig(weights="none", frozen="nothing")
    assert training_flops(config, 80) / 2e9 == pytest.approx(3 * 15.3, rel=0.03)
    half = config.replace(frozen="stage1")
    assert training_flops(half, 80, True) < training_flops(half, 80) < training_flops(config, 80)


def test_both_steps_train(data_root):
    """Each changes its weights with every call: what is timed is no cached result."""
    for step in (training.our_step, training.their_step):
        call = step(SMOKE, CPU)
        cells = [c.cell_contents for c in call.__closure__]
        model = next(
            getattr(c, "model", c) for c in cells if isinstance(getattr(c, "model", c), torch.nn.Module)
        )
        before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        call()
        after = [p for p in model.parameters() if p.requires_grad]
        assert not any(torch.equal(a, b) for a, b in zip(before[-4:], after[-4:], strict=True))


@pytest.mark.slow
def test_processes_measure_whenever_they_are_asked(data_root):
    """Two at once, as often as the sizes say."""
    (rate,) = training.rates(SMOKE, CPU, run.TRIAL, ("ours", 2, 1))
    assert rate["low"] > 0 and rate["n"] == 2


def test_what_a_process_raises_is_raised(data_root):
    with pytest.raises(DatasetError, match="'absent'"):
        training.rates(SMOKE.replace(dataset="absent"), CPU, run.TRIAL, ("ours", 2, 0))


@pytest.mark.parametrize(
    ("has", "said"), [(True, "ours in bf16, torchvision's in fp32"), (False, "both in fp32")]
)
def test_the_precision_is_the_one_that_was_used(data_root, monkeypatch, has, said):
    """The config asks for bf16 and torchvision's loop is in fp32; a CPU without bf16 makes both fp32."""
    sides = [spread([v]) for v in (3.0, 1.0, 2.0)]
    monkeypatch.setattr(training.hardware, "has_bf16", lambda device="cpu": has)
    monkeypatch.setattr(training, "new_step", lambda *given: None)
    monkeypatch.setattr(training, "rates", lambda *given: sides)
    (_, against_theirs), (_, against_one) = training.bench_cpu_runs("smoke", SMOKE, run.TRIAL)
    assert against_theirs["note"].split("; ")[1] == said
    assert (against_theirs["ratio"], against_one["ratio"]) == (3.0, 1.5)
    assert training.precision(SMOKE.replace(precision="fp32"), CPU) == "fp32"


def test_a_part_that_is_too_large_is_left_out(data_root, tmp_path, monkeypatch, capsys):
    """The parts after it are measured, and the command says that it is not whole."""

    def too_large():
        raise torch.OutOfMemoryError("37 GiB")

    def small():
        yield row("small", "them", "s", spread([1.0]), spread([2.0]))

    monkeypatch.setattr(run, "parts_of", lambda *given: [partial(too_large), partial(small)])
    monkeypatch.setattr(run, "data_root", lambda: tmp_path)
    assert run.run_bench("cpu", trial=True) == 1
    assert "| small |" in (tmp_path / "bench-trial" / "README.md").read_text()
    assert "left out: too_large: OutOfMemoryError: 37 GiB" in capsys.readouterr().out
    (record,) = (tmp_path / "bench-trial").glob("*.json")
    record.write_text("an earlier one, of all parts")
    assert run.run_bench("cpu", trial=True) == 1 and record.read_text() == "an earlier one, of all parts"
    assert '"small"' in record.with_suffix(".unfinished").read_text()
    record.unlink()
    assert run.run_bench("cpu", trial=True, only="small") == 0, "that part alone"
    assert len(list((tmp_path / "bench-trial").glob("*-small.json"))) == 1
    assert run.run_bench("cpu", trial=True, only="too_large") == 1
    assert "nothing was measured" in capsys.readouterr().out
    with pytest.raises(ValueError, match="there are too_large, small; did you mean 'small'"):
        run.run_bench("cpu", trial=True, only="smal")


def test_what_is_not_prepared_is_not_measured(data_root):
    """The tests' data root has the embedded dataset alone."""
    parts = run.parts_of(CPU, LIMITS, replace(run.TRIAL, profiles=("smoke", "coco-cpu")))
    assert [p.args[0] for p in parts if p.func is training.bench_cpu_runs] == ["smoke"]
    assert run.gpu_config().dataset == "synthetic"
    assert run.parts_of(CPU, LIMITS, run.Sizes()), "the profiles of a whole bench are such as it can measure"


@pytest.mark.slow
def test_the_parts_of_a_gpu_give_what_the_page_shows(data_root, monkeypatch):
    """On the CPU, with the network of the smoke profile: the parts take their device and are the same."""
    monkeypatch.setattr(run, "gpu_config", lambda: SMOKE)
    parts = run.parts_of(torch.device("cuda"), LIMITS, run.TRIAL)
    assert parts[0].func is training.bench_step
    parts = [partial(p.func, *(CPU if isinstance(a, torch.device) else a for a in p.args)) for p in parts]
    found = [finding for part in parts for finding in part()]
    timed = ["rows"] * 3 + ["curves"] * 2 + ["rows"]
    assert [kind for kind, _ in found] == [*timed, "kernels"], "a profiler slows what comes after it"
    kernels = found[-1][1]["heaviest"]
    assert found[-1][1]["what"] == found[0][1]["what"]
    assert 5 < len(kernels) <= 25 and kernels[0]["seconds"] >= kernels[-1]["seconds"] > 0
    training_row = found[0][1]
    flops = training_flops(SMOKE.replace(batch_size=2), 10)
    assert training_row["share"] == pytest.approx(training_row["ours"]["median"] * flops / 1e12)

"""A number that is not finite, at any step and wherever it arises, is a result;
the same config, the same bits.
"""

import json
import math

import pytest
import torch

from focalrepro.data import load
from focalrepro.runs import run
from focalrepro.study.profiles import get_profile
from focalrepro.training import two_stage
from focalrepro.training.engines import Engines
from focalrepro.training.loop import CHECK_EVERY, train
from focalrepro.training.step import Step

CPU = torch.device("cpu")
ONE = get_profile("smoke").base.replace(weights="none", steps=3, fpn_channels=8)
TWO = ONE.replace(detector="faster_rcnn")
LONG = CHECK_EVERY + 2  # steps: the watch looks once before the end


@pytest.fixture
def spoil(monkeypatch):
    """spoil(at, kind): from now on the training's step number `at` meets a NaN in a weight or a gradient."""

    def now(at, kind, value=math.nan):
        for of in (Step, two_stage.TwoStageStep):
            monkeypatch.setattr(of, "__call__", spoiled(of.__call__, at, kind, value))

    return now


def spoiled(call, at, kind, value):
    count = 0

    def spoiled_call(self, index, view, rate):
        nonlocal count
        weight = max((p for p in self.model.parameters() if p.requires_grad), key=torch.numel)
        hook = None
        if count == at and kind == "weight":
            weight.data[(0,) * weight.dim()] = value
        elif count == at:
            hook = weight.register_hook(lambda gradient: gradient * value)
        count += 1
        call(self, index, view, rate)
        if hook:
            hook.remove()

    return spoiled_call


GHM = ONE.replace(loss="ghm")  # which looks its logits up in a table


@pytest.mark.parametrize("config", [ONE, TWO, GHM], ids=["one stage", "two stages", "GHM-C"])
@pytest.mark.parametrize("kind", ["weight", "gradient"])
@pytest.mark.parametrize(("steps", "at"), [(3, 0), (3, 1), (3, 2), (LONG, LONG - 1)])
def test_a_nan_at_any_step_is_a_divergence(tiny, spoil, config, kind, steps, at):
    spoil(at, kind)
    result = train(config.replace(steps=steps), tiny[0], CPU)
    assert result.status == "diverged" and len(result.history["step"]) == steps
    assert all(map(math.isfinite, result.history["loss"][:at])), "what was right before it is kept"


def test_a_nan_ends_the_training_at_the_next_look(tiny, spoil):
    spoil(1, "weight")
    assert train(ONE.replace(steps=30), tiny[0], CPU).history["step"][-1] == CHECK_EVERY


@pytest.mark.parametrize("config", [ONE, TWO], ids=["one stage", "two stages"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_its_record_is_whole(data_root, spoil, config, value):
    spoil(2, "weight", value)
    record = run(config, "cpu")
    assert record.diverged and record.AP == 0 and record.detections.test == 0
    json.dumps(record.as_json(), allow_nan=False)


@pytest.mark.parametrize(
    "config",
    [ONE, ONE.replace(score_threshold=0.05), TWO],
    ids=["one stage", "above a threshold", "two stages"],
)
def test_weights_that_are_finite_and_too_large_to_detect_with_are_a_divergence(
    data_root, monkeypatch, config
):
    """As a last step may leave them, after which no loss is computed any more."""

    def exploded(*args):
        result = train(*args)
        for weight in result.model.parameters():
            weight.data *= 1e30
        assert result.status == "done"
        return result

    monkeypatch.setattr("focalrepro.runs.train", exploded)
    record = run(config, "cpu")
    assert record.diverged and record.AP == 0 and record.detections.test == 0


def test_the_run_after_a_divergence_is_as_if_it_had_been_the_first(tiny, monkeypatch):
    alone, engines = train(ONE, tiny[0], CPU), Engines(everywhere=True)
    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", spoiled(Step.__call__, 1, "weight", math.nan))
        assert train(ONE.replace(seed=1), tiny[0], CPU, engines=engines).status == "diverged"
    after = train(ONE, tiny[0], CPU, engines=engines)
    assert after.status == "done" and after.history == alone.history


@pytest.mark.parametrize("config", [ONE, TWO], ids=["one stage", "two stages"])
def test_the_same_config_gives_the_same_bits(data_root, config):
    data = load("synthetic", "train", 128)
    first = train(config, data, CPU).model.state_dict()
    torch.rand(3)  # whatever was drawn between
    second = train(config, data, CPU).model.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    a, b = run(config, "cpu").as_json(), run(config, "cpu").as_json()
    timed = {"seconds", "images_per_second", "step_seconds", "inference_ms", "finished", "digest"}
    assert {k: v for k, v in a.items() if k not in timed} == {k: v for k, v in b.items() if k not in timed}

"""A step that is used again trains as a new one does, to the last digit."""

import pytest
import torch

from focalrepro.study.profiles import PROFILES
from focalrepro.training import batches
from focalrepro.training.batches import READ, SplitData, TrainData, keeps_stage1
from focalrepro.training.engines import SWEPT, Engines, new_step
from focalrepro.training.initial import initial_model
from focalrepro.training.loop import run_steps, train

CPU = torch.device("cpu")
BASE = PROFILES["smoke"].base.replace(steps=6, warmup=2, lr=5e-3, batch_size=4)


def outcome(config, data, engines):
    result = train(config, data, CPU, engines=engines)
    return result.history, {k: v.clone() for k, v in result.model.state_dict().items()}


def test_a_step_used_again_gives_what_a_new_one_gives(tiny):
    data, engines = tiny[0], Engines(everywhere=True)
    configs = [
        BASE,
        BASE.replace(gamma=0.0, alpha=0.75, seed=1, prior=0.1),
        BASE.replace(steps=4, normalizer="positives", train_fraction=0.5),
    ]
    steps = []
    for config in configs:
        history, weights = outcome(config, data, engines)
        steps.append(engines.kept[1])
        alone_history, alone = outcome(config, data, None)
        assert history == alone_history
        assert all(torch.equal(weights[k], alone[k]) for k in alone)
    assert steps[0] is steps[1] is steps[2]


@pytest.mark.parametrize("loss", ["focal", "ghm"])
def test_the_moving_average_begins_anew(loss, tiny):
    data, engines = tiny[0], Engines(everywhere=True)
    config = BASE.replace(loss=loss, normalizer="moving", optimizer="sgd", weight_decay=1e-4)
    first, second = (outcome(config, data, engines) for _ in "ab")
    assert first[0] == second[0]


def test_another_shape_gets_another_step(tiny):
    data, engines = tiny[0], Engines(everywhere=True)
    for change in ({}, {"batch_size": 2}, {"loss": "hinge"}, {"anchor_scales": 1}):
        before = engines.kept
        train(BASE.replace(steps=1, **change), data, CPU, engines=engines)
        assert before is None or engines.kept[1] is not before[1], change


def test_another_step_reads_the_same_data_on_the_device(tiny):
    data, engines = tiny[0], Engines(everywhere=True)
    sources = []
    for change in ({}, {"loss": "hinge"}, {"batch_size": 2, "optimizer": "sgd"}):
        config = BASE.replace(steps=2, warmup=1, **change)
        history, _ = outcome(config, data, engines)
        sources.append(engines.kept[1].source)
        assert history == outcome(config, data, None)[0]
    assert sources[0] is sources[1] is sources[2]
    train(BASE.replace(steps=1, flip=not BASE.flip), data, CPU, engines=engines)
    assert engines.kept[1].source is not sources[0]


class Seen:
    """A config that notes which of its fields are read."""

    def __init__(self, config):
        self.config, self.fields = config, set()

    def __getattr__(self, name):
        known = name in self.config.as_dict()
        self.fields |= {name} if known else {"first_level", "last_level"}  # `levels`
        return getattr(self.config, name)


def kept_on(monkeypatch):
    """As a GPU with room: a frozen first stage's maps are kept."""
    monkeypatch.setattr(batches, "keeps_stage1", lambda config, *_: config.frozen == "stage1")


RESNET = {"backbone": "resnet18", "first_level": 3, "frozen": "stage1", "batch_size": 2, "steps": 2}


@pytest.mark.parametrize(
    "change", [{}, {"backbone": "resnet50v2", "precision": "bf16"}, {"detector": "faster_rcnn"}]
)
def test_kept_maps_of_the_first_stage_train_as_its_images_do(tiny, monkeypatch, change):
    """Mirror images, too, of which each step takes some."""
    config, data = BASE.replace(**RESNET).replace(**change), tiny[0]
    assert config.flip
    images = train(config, data, CPU)
    kept_on(monkeypatch)
    step = new_step(config, data, CPU)
    assert step.source.from_c2 and step.source.inputs[0][0].shape[0] == len(data)
    torch.testing.assert_close(run_steps(step, config).history["loss"], images.history["loss"])


def test_the_first_stages_maps_are_kept_where_they_may_be_and_fit(monkeypatch):
    """Not on a CPU, not of a stage that learns, nor where batch norms learn."""
    config, gpu = BASE.replace(**RESNET, precision="bf16", weights="imagenet"), torch.device("cuda")
    bytes_of = 2 * 10 * (config.image_size // 4) ** 2 * 64 * 2
    free = [int(bytes_of / batches.STAGE1_RESIDENT) + 2]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], free[0]))
    kept = lambda config, images=10, on=gpu: keeps_stage1(config, images, on)  # noqa: E731
    assert kept(config) and not kept(config, 11) and not kept(config.replace(precision="fp32"))
    assert not kept(config, on=CPU) and not kept(config.replace(frozen="nothing"))
    assert not kept(BASE.replace(frozen="stage1"))


def test_a_first_stage_that_nothing_trained_is_its_seeds_own(tiny, monkeypatch):
    kept_on(monkeypatch)
    config, engines = BASE.replace(**RESNET, weights="none"), Engines(everywhere=True)
    for seed in range(2):
        mine = config.replace(seed=seed)
        assert outcome(mine, tiny[0], engines)[0] == outcome(mine, tiny[0], None)[0]


CACHED = {"weights": "digits", "frozen": "backbone", "flip": False, "views": 2}


@pytest.mark.parametrize("change", [{}, CACHED, RESNET], ids=["images", "cached maps", "first stage"])
def test_data_that_is_shared_depends_on_no_other_field(tiny, change, monkeypatch):
    kept_on(monkeypatch)
    config = BASE.replace(**change)
    model = initial_model(config, tiny[0])  # reads the backbone's fields, which are listed, too
    seen = Seen(config)
    TrainData(seen, tiny[0], CPU, model)
    assert len(seen.fields) > 5 and seen.fields <= set(READ)
    assert {"backbone", "weights", "kept_channels", "detector"} <= set(READ)


def test_cached_maps_stay_in_their_files_where_a_device_has_no_room(tiny, monkeypatch):
    """And then no step may be captured, which could not fetch them. On a device that computes nothing."""
    config, device = BASE.replace(**CACHED), torch.device("meta")
    # Maps are kept by whether the device has bf16, and this one "has": so it finds those of any CPU.
    monkeypatch.setattr("focalrepro.detector.frozen_features.has_bf16", lambda device: True)
    model = initial_model(config, tiny[0])
    SplitData(config, tiny[0], CPU, model)  # which makes them
    resident = SplitData(config, tiny[0], device, model)
    assert resident.inputs[0][0].device == device and not resident.streams
    monkeypatch.setattr("focalrepro.training.batches.RESIDENT", 0.0)
    streamed = SplitData(config, tiny[0], device, model)
    assert streamed.inputs[0][0].device == CPU and streamed.streams


def test_on_the_cpu_nothing_is_kept(tiny):
    engines = Engines()
    train(BASE.replace(steps=1), tiny[0], CPU, engines=engines)
    assert engines.kept is None


def test_what_may_differ_is_a_field_of_the_config():
    assert set(SWEPT) <= set(BASE.as_dict())

"""A step that is used again trains as a new one does, to the last digit."""

import torch

from focalrepro.study.profiles import PROFILES
from focalrepro.training.loop import SWEPT, Engines, train

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


def test_the_moving_average_begins_anew(tiny):
    data, engines = tiny[0], Engines(everywhere=True)
    config = BASE.replace(normalizer="moving", optimizer="sgd", weight_decay=1e-4)
    first, second = (outcome(config, data, engines) for _ in "ab")
    assert first[0] == second[0]


def test_another_shape_gets_another_step(tiny):
    data, engines = tiny[0], Engines(everywhere=True)
    for change in ({}, {"batch_size": 2}, {"loss": "hinge"}, {"anchor_scales": 1}):
        before = engines.kept
        train(BASE.replace(steps=1, **change), data, CPU, engines=engines)
        assert before is None or engines.kept[1] is not before[1], change


def test_on_the_cpu_nothing_is_kept(tiny):
    engines = Engines()
    train(BASE.replace(steps=1), tiny[0], CPU, engines=engines)
    assert engines.kept is None


def test_what_may_differ_is_a_field_of_the_config():
    assert set(SWEPT) <= set(BASE.as_dict())

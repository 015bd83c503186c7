"""Two recipes compared, on made-up runs whose ranking is known."""

import numpy as np
from focalrepro.recipes import agreement, time_to_ap, time_to_ap_figure

from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES

PROFILE = PROFILES["coco256"]


def records(recipe, ablations, ap):
    rng, found = np.random.default_rng(0), {}
    for name in ablations:
        for config in get_ablation(name).configs(PROFILE.config(recipe), [0]).values():
            value = ap(config)
            found[config] = {
                "run_id": f"{len(found):012x}",
                "status": "done",
                "config": config.as_dict(),
                "metrics": {"AP": value},
                "bootstrap": {"AP": (value + rng.normal(0, 0.05, 50)).tolist()},
                "seconds": {"train": config.steps / 100},
            }
    return list(found.values())


def test_recipes_that_rank_alike_and_otherwise():
    up = records("fast", ("1a", "1b"), lambda c: c.alpha + c.gamma)
    same = records("paper", ("1a", "1b"), lambda c: 5 * (c.alpha + c.gamma))
    found = agreement(up + same, "coco256", "paper")
    assert found.rows == 13 and found.correlation == 1.0 and 0.5 < found.low <= found.high == 1.0
    down = records("paper", ("1a", "1b"), lambda c: -c.alpha - c.gamma)
    assert agreement(up + down, "coco256", "paper").correlation == -1.0


def test_too_few_rows_say_nothing():
    up = records("fast", ("1a", "1b"), lambda c: c.alpha + c.gamma)
    few = records("paper", ("1b",), lambda c: c.gamma)[:5]
    assert agreement(up + few, "coco256", "paper") is None


def test_time_to_ap_has_a_line_for_each_recipe_and_loss():
    both = [
        r for recipe in ("fast", "paper") for r in records(recipe, ("budget",), lambda c: np.log(c.steps))
    ]
    frame = time_to_ap(both, "coco256")
    assert len(frame) == 20 and frame["seconds"].min() == 1.88  # an eighth of 1,500 steps
    axes = time_to_ap_figure(frame).axes[0]
    assert {t.get_text() for t in axes.get_legend().get_texts()} == {
        "fast CE",
        "fast FL",
        "paper CE",
        "paper FL",
    }

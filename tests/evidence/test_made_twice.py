"""What another machine made of the same runs."""

import pytest
from made_up import changed, record, study

from focalrepro.evidence.made_twice import made_twice
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import get_profile
from focalrepro.study.store import Store


@pytest.fixture
def runs(monkeypatch, tmp_path):
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path))
    configs = get_ablation("primary").configs(get_profile("coco-cpu").base, range(2)).values()
    return [record(config, 5.0 + 0.1 * i) for i, config in enumerate(configs)][:3]


def test_the_mean_difference_is_over_the_runs_that_both_made(runs):
    s = study(runs, "coco-cpu")
    assert made_twice(s) is None
    for r, ap in zip(runs, (5.0, 5.2, 5.1), strict=True):
        other = changed(r, metrics={"AP": ap}, hardware={"precision": "fp32"})
        Store(s.folder / "again").put(other)
    twice = made_twice(s)
    assert twice.differences == pytest.approx([0.0, -0.1, 0.1])
    mean, low, high = twice.interval
    assert (
        mean == pytest.approx(0, abs=1e-9) and high == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-3) == -low
    )
    assert twice.machines == ("a processor", "a processor without bf16")


def test_a_copy_of_the_same_record_is_no_second_making(runs):
    s = study(runs, "coco-cpu")
    for r in runs:
        Store(s.folder / "again").put(r)
    assert made_twice(s) is None

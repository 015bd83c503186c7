"""What another machine made of the same runs."""

import made_up
import pytest
from made_up import changed, record, study

from focalrepro.evidence.claims import CLAIMS
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.made_twice import LEAST, made_twice, mixed
from focalrepro.show.profile_page import page
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
    assert not made_twice(s)
    for r, ap in zip(runs, (5.0, 5.2, 5.1), strict=True):
        other = changed(r, metrics={"AP": ap}, hardware={"precision": "fp32"})
        Store(s.folder / "again").put(other)
    (twice,) = made_twice(s)
    assert twice.differences == pytest.approx([0.0, -0.1, 0.1])
    mean, low, high = twice.interval
    assert (
        mean == pytest.approx(0, abs=1e-9) and high == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-3) == -low
    )
    assert twice.machines == ("a processor", "a processor without bf16")


def test_the_lead_of_one_row_is_told_on_both_machines(runs):
    by_cpu = made_up.runs(lambda config: 5.0 + config.gamma, ("primary",), 3, seed_sd=0.0, profile="coco-cpu")
    s = study(by_cpu, "coco-cpu")
    rows, folder = s.rows("primary"), Store(s.folder / "again")
    ahead, behind = rows["FL, γ = 2"], rows["CE, α = .5"]
    for r, drop in zip((*ahead, *behind), (0.5, 0.6, 0.7, 0, 0, 0), strict=True):
        folder.put(changed(r, metrics={"AP": r.AP - drop}, hardware={"precision": "fp32"}))
    lead = made_twice(s)[0].lead(rows)
    assert lead[:3] == ("FL, γ = 2", "CE, α = .5", 3)
    assert lead.here == pytest.approx((2.0, 2.0, 2.0))
    assert lead.there == pytest.approx((1.4, 1.4 - 0.2484, 1.4 + 0.2484), abs=1e-3)
    folder.put(changed(rows["FL, γ = 1"][0], hardware={"precision": "fp32"}))
    assert made_twice(s)[0].lead(rows) is None, "of three rows no two are chosen"


def test_machines_that_differ_in_their_cpu_alone_are_told_apart(runs):
    s = study(runs, "coco-cpu")
    for folder, more in (("again", {"precision": "fp32"}), ("again-cpu", {"cpu": "another processor"})):
        for r in runs:
            Store(s.folder / folder).put(changed(r, hardware=more))
    both = made_twice(s)
    assert [twice.machines[1] for twice in both] == ["a processor without bf16", "another processor"]
    assert [len(twice.kinds) for twice in both] == [2, 1] and mixed(s) == []
    said = [line for line in page(s)[0].splitlines() if " runs were made twice: " in line]
    assert "So a row may not hold runs of both" in said[0] and "Both compute in bf16, and rows" in said[1]


def test_a_copy_of_the_same_record_is_no_second_making(runs):
    s = study(runs, "coco-cpu")
    for r in runs:
        Store(s.folder / "again").put(r)
    assert not made_twice(s)


@pytest.mark.parametrize(
    ("shift", "count", "agree"),
    [(0.0, LEAST, True), (0.3, LEAST, False), (-0.3, LEAST, False), (0.0, LEAST - 1, False)],
)
def test_a_row_may_hold_runs_of_both_where_enough_of_them_agree(runs, shift, count, agree):
    """The last seed of each row was made on a GPU, which is named until both are known to tie."""
    gpu = {"hardware": {"device": "cuda", "gpu": "a GPU"}}
    by_cpu = made_up.runs(lambda config: 5.0, ("primary",), 4, seed_sd=0.0, profile="coco-cpu")
    s = study([changed(r, **gpu) if r.seed == 3 else r for r in by_cpu], "coco-cpu")
    assert any("primary, row 'CE, α = .5': runs of cpu and cuda in one" in line for line in mixed(s))
    for i, r in enumerate([r for r in by_cpu if r.seed < 3][:count]):
        again = changed(r, metrics={"AP": 5.0 + shift + 0.02 * (i % 2)}, **gpu)
        Store(s.folder / "again").put(again)
    (twice,) = made_twice(s)
    assert twice.agree == agree and (mixed(s) == []) == agree


def test_rows_that_no_counted_machine_made_all_of_compare_by_what_one_made_again(monkeypatch, tmp_path):
    """OHEM was made in fp32, focal loss in bf16 and, three of its four seeds, in fp32, too."""
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path))
    fp32 = {"hardware": {"precision": "fp32"}}
    by_cpu = made_up.runs(lambda config: 5.0, ("ohem-batch",), 4, seed_sd=0.0, profile="coco-cpu")
    focal = [r for r in by_cpu if r.config.loss == "focal"]
    s = study([*focal, *(changed(r, **fp32) for r in by_cpu if r.config.loss == "ohem")], "coco-cpu")
    assert Evidence(s).whole("ohem-batch") is None and any("ohem-batch: no seed" in line for line in mixed(s))
    for r in focal[:3]:
        Store(s.folder / "again").put(changed(r, metrics={"AP": 6.0 + 0.1 * r.seed}, **fp32))
    e = Evidence(s)
    rows = e.whole("ohem-batch")
    assert len(rows) == 3 and all([r.seed for r in records] == [0, 1, 2] for records in rows.values())
    assert {r.hardware.precision for records in rows.values() for r in records} == {"fp32"} and not mixed(s)
    assert [s.file(r).split("/")[0] for r in rows["FL, γ = 2"]] == ["again"] * 3
    assert e.study.rows("ohem-batch")["FL, γ = 2"] == focal, "other tables count what they counted"
    verdict = CLAIMS["ohem-larger"].judge(e)
    assert (verdict.estimate.effect, verdict.seeds) == (pytest.approx(1.1), 3)
    assert "both sides by runs of a processor without bf16" in verdict.made_on


def test_one_seed_of_like_machines_does_not_outweigh_what_one_machine_made_of_all_rows(monkeypatch, tmp_path):
    """Of OHEM's four seeds in fp32 one was made in bf16, too; in fp32 three make pairs, in bf16 one."""
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path))
    fp32 = {"hardware": {"precision": "fp32"}}
    by_cpu = made_up.runs(lambda config: 5.0, ("ohem-batch",), 4, seed_sd=0.0, profile="coco-cpu")
    counted = [r if r.config.loss == "focal" or r.seed == 3 else changed(r, **fp32) for r in by_cpu]
    s = study(counted, "coco-cpu")
    assert all([r.seed for r in records] == [3] for records in Evidence(s).rows("ohem-batch").values())
    for r in by_cpu:
        if r.config.loss == "focal" and r.seed < 3:
            Store(s.folder / "again").put(changed(r, **fp32))
    rows = Evidence(study(counted, "coco-cpu")).rows("ohem-batch")
    assert all([r.seed for r in records] == [0, 1, 2] for records in rows.values())
    assert {r.hardware.precision for records in rows.values() for r in records} == {"fp32"}

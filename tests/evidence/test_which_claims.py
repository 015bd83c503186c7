"""Which claims are judged, on which records, and how often."""

from types import SimpleNamespace

import pytest
from made_up import record, study

from focalrepro.evidence.claims import CLAIMS, Claim, judge_all
from focalrepro.evidence.difference import Evidence
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import get_profile

pytestmark = pytest.mark.usefixtures("nothing_committed")


def test_claims_of_other_ablations_are_left_to_the_profile_that_runs_them():
    quick, whole = (
        {c.id for c, _ in judge_all(Evidence(study([], name)))} for name in ("quick", "full-quick")
    )
    assert quick < whole == set(CLAIMS) and not {"ohem", "fl-hard-negatives"} & quick


def test_missing_runs_are_said_to_be_missing():
    found = judge_all(Evidence(study([])))
    assert {v.word for _, v in found} == {"not run"}
    assert "needs grid" in {v.how for _, v in found}
    assert {c.id for c, _ in judge_all(Evidence(study([])), "1e")} == {"deeper", "larger", "two-stage"}


def test_a_part_of_the_steps_is_the_row_that_has_it():
    for steps in (1000, 1003):  # of whose quarter none, and three quarters are cut off
        base = get_profile("full-quick").base.replace(steps=steps)
        sides = [side for c in CLAIMS.values() for side in (c.a, c.b) if side and "steps" in side.model_extra]
        assert sides and all(side.labels(base) for side in sides)


def test_claims_are_judged_once(monkeypatch):
    e, asked, judge = Evidence(study([])), [], Claim.judge
    monkeypatch.setattr(Claim, "judge", lambda c, e: asked.append(c.id) or judge(c, e))
    assert judge_all(e) == judge_all(e) and len(judge_all(e, "1e")) == 3
    assert sorted(asked) == sorted(CLAIMS)


def test_claims_on_own_data_read_its_runs(monkeypatch):
    profiles = "focalrepro.study.profiles"
    monkeypatch.setattr(f"{profiles}.prepared", lambda: ["mine"])
    monkeypatch.setattr(f"{profiles}.describe", lambda name: SimpleNamespace(parameters={}))
    mine = get_profile("mine")
    rows = [
        c for a in ("1a", "1b") for c in get_ablation(a).configs(mine.base, range(3), mine.rates).values()
    ]
    of = [record(c, 30 + 3 * (c.gamma == 2) + 0.01 * c.seed) for c in dict.fromkeys(rows)]
    elsewhere = {c.id: v.word for c, v in judge_all(Evidence(study(of)))}
    assert elsewhere["fl-best-alpha"] == "not run", "of another profile"
    e = Evidence(study(of, "mine"))
    assert {c.id: v.word for c, v in judge_all(e)}["fl-best-alpha"] == "confirmed"

"""Verdicts on made-up runs whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import changed, record, runs, study

from focalrepro.evidence.claims import CLAIMS, FAMILY, Claim, judge_all
from focalrepro.evidence.difference import Evidence
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES

pytestmark = pytest.mark.usefixtures("nothing_committed")


def judged(records, claim, profile="smoke"):
    (found,) = [v for c, v in judge_all(Evidence(study(records, profile))) if c.id == claim]
    return found


def word(records, claim):
    return judged(records, claim).word


def test_ids_are_unique_and_every_claim_says_where_it_is_from():
    assert len(CLAIMS) > 40 and set(FAMILY) <= set(CLAIMS)
    for claim in CLAIMS.values():
        assert claim.sentence.endswith(".") and claim.source and claim.question
        assert claim.statistic or (claim.a and claim.b and claim.needs), claim.id
        for name in claim.needs:
            assert get_ablation(name)
        for side in (claim.a, claim.b) if claim.a else ():
            assert any(side.labels(p.base) for p in PROFILES.values()), (
                f"{claim.id}: no profile has such a row"
            )


def test_a_claim_that_is_not_whole_is_refused():
    fields = {"id": "x", "question": "?", "sentence": ".", "source": "s"}
    with pytest.raises(ValueError, match="either a and b or a statistic"):
        Claim(**fields, a={"in": "1a"})
    with pytest.raises(ValueError, match="Input should be"):
        Claim(**fields, statistic="no_such")


def test_the_papers_side_is_picked_by_the_papers_numbers():
    base, c = PROFILES["quick"].base, CLAIMS["fl-best-alpha"]
    assert (c.a.paper(base), c.b.paper(base)) == (34.0, 31.1)
    assert CLAIMS["plateau"].a.paper(base) == 32.2 and np.isnan(CLAIMS["two-stage"].a.paper(base))


def test_a_clear_gain_is_confirmed_and_a_clear_loss_refuted():
    assert word(runs(lambda c: 30 + 3 * (c.gamma == 2)), "fl-best-alpha") == "confirmed"
    assert word(runs(lambda c: 30 - 3 * (c.gamma == 2)), "fl-best-alpha") == "refuted"
    assert word(runs(lambda c: 30 + 0.2 * (c.gamma == 2)), "fl-best-alpha") == "undecided"


def test_the_baseline_to_beat_is_tuned_in_alpha_and_pi():
    def of(best):
        level = {(0.9, 0.001): best}
        return runs(lambda c: 30.0 if c.gamma else level.get((c.alpha, c.prior), 20.0), ("tuned",))

    assert word(of(25.0), "fl-alpha-and-prior") == "confirmed"
    found = judged(of(35.0), "fl-alpha-and-prior")
    assert found.word == "refuted" and "α = 0.9, π = 0.001" in found.remark and -6 < found.value < -4


def test_the_best_of_some_rows_is_not_the_best_of_all():
    of = [r for r in runs(lambda c: 30 + 3 * (c.gamma == 2)) if r.config.alpha < 0.9]
    for claim in ("fl-best-alpha", "best-alpha", "collapse", "plateau"):
        assert word(of, claim) == "not run", claim


def test_a_plateau_is_as_good_as_its_worst():
    def aps(at_five):
        return lambda c: 30 + 3 * (c.gamma >= 0.5) + (at_five - 33) * (c.gamma == 5)

    assert word(runs(aps(32.0)), "plateau") == "confirmed"
    assert word(runs(aps(27.0)), "plateau") == "refuted"


def test_collapse_and_best_alpha():
    aps = {0.1: 0.1, 0.25: 10, 0.5: 30, 0.75: 33, 0.9: 31, 0.99: 28, 0.999: 25}
    of = runs(lambda c: aps[c.alpha] if c.gamma == 0 else 30)
    assert word(of, "collapse") == "confirmed" and word(of, "best-alpha") == "confirmed"
    at_05 = cut(runs(lambda c: 30 - 9 * c.alpha), lambda c: 15 * (c.alpha < 0.5))
    assert word(at_05, "best-alpha-05") == "confirmed" and word(at_05, "best-alpha") == "refuted"
    late = runs(lambda c: aps[c.alpha] + 20 * (c.alpha == 0.99) if c.gamma == 0 else 30)
    assert word(late, "best-alpha") == "refuted"
    assert word(runs(lambda c: 30), "collapse") == "refuted"


def cut(records, lost):
    """The records, of which a threshold of .05 takes lost(config) AP."""
    of = []
    for r in records:
        at = r.AP - lost(r.config)
        drawn = [v - r.AP + at for v in r.as_json()["bootstrap"]["AP"]]
        of.append(changed(r, at_05={"AP": at}, tune={"AP_at_05": at}, bootstrap={"AP_at_05": drawn}))
    return of


@pytest.mark.parametrize(("without", "wanted"), [(29.0, "confirmed"), (11.0, "refuted"), (20.0, "undecided")])
def test_how_much_of_the_collapse_is_the_thresholds(without, wanted):
    """At .05 α = .10 has 10 of 30 AP; without a threshold so much."""
    of = runs(lambda c: (without if c.alpha == 0.1 else 30) if c.gamma == 0 else 30)
    assert word(cut(of, lambda c: (without - 10) * (c.alpha == 0.1 and c.gamma == 0)), "threshold") == wanted


def test_ties_by_two_one_sided_tests():
    def of(gap, sd):
        return runs(lambda c: 30 + gap * (c.loss == "focal_star"), ("3",), 8, sd, image_sd=0.05)

    def steady(gap, sd):
        return [changed(r, bootstrap={"AP": [r.AP] * 3}) for r in of(gap, sd)]

    assert word(steady(0.0, 0.05), "star") == "confirmed"
    assert word(steady(5.0, 0.05), "star") == "refuted"
    assert word(steady(0.3, 0.3), "star") == "undecided"


def test_the_farthest_row_is_counted_from_the_seeds_that_it_has():
    of = runs(lambda c: 30 - 2 * (c.beta == 1) + 1 * (c.beta == 0), ("3",), 3, 0.0, 0.0)
    e = Evidence(study(of))
    side, plain = CLAIMS["star"].a, CLAIMS["star"].b.records(e)[0]
    lucky = [record(plain[0].config.replace(seed=seed), 60.0) for seed in range(3, 8)]
    assert side.records(e, [*plain, *lucky])[1] == side.records(e, plain)[1]
    assert "β = 1" in side.records(e, plain)[1]


def test_depth_size_and_stages():
    def aps(c):
        two_stage = c.detector != "retinanet"
        return 30 + 3 * (c.backbone == "small_deep") - (128 - c.image_size) / 8 - 5 * two_stage

    of = runs(aps, ("1e",))
    assert [word(of, claim) for claim in ("deeper", "larger", "two-stage")] == ["confirmed"] * 3
    assert word(runs(lambda c: 30 + 5 * (c.detector != "retinanet"), ("1e",)), "two-stage") == "refuted"


def test_a_loss_that_is_only_faster_is_told_from_one_that_is_better():
    def aps(late):
        return lambda c: 10 * np.log2(c.steps) + (8 if c.gamma == 2 else 0) * (c.steps < 6 or late)

    faster, better = (runs(aps(late), ("budget",)) for late in (False, True))
    assert word(faster, "twice-the-steps") == "confirmed" == word(better, "twice-the-steps")
    assert word(better, "ahead-after-twice") == "confirmed"
    assert word(faster, "ahead-after-twice") == "undecided"


@pytest.mark.parametrize(("late", "said"), [(0.0, "undecided"), (3.0, "confirmed"), (-3.0, "refuted")])
def test_after_four_times_the_steps_each_loss_has_the_better_of_the_rates(late, said):
    def aps(c):  # at the other's rate each loss is far behind
        focal = c.gamma == 2
        return 40 + late * focal - 10 * ((c.lr == 0.008) != focal)

    of = runs(aps, ("long",), profile="full-quick")
    assert judged(of, "ahead-after-four", "full-quick").word == said


@pytest.mark.parametrize(("seeds", "word"), [(3, "not judged yet"), (7, "not judged yet"), (8, "confirmed")])
def test_a_claim_waits_for_the_seeds_that_were_declared_for_its_rows(seeds, word):
    of = runs(lambda c: 5 + 2 * (c.gamma == 2), ("box_weight",), seeds=seeds, profile="coco-cpu")
    found = judged(of, "fl-box-weight", "coco-cpu")
    assert found.word == word and found.seeds == seeds
    assert found.wanted == (8 if seeds < 8 else 0)


def test_a_lead_that_grows_with_rarity_by_the_divisor_alone():
    def aps(divisors):
        def ap(c):
            rarest, focal = c.dataset == "synthetic-10000", c.loss == "focal" and c.gamma == 2
            return 40 - 20 * rarest + focal * (1 + 6 * rarest * (c.normalizer in divisors))

        return ap

    def words(divisors):
        of = runs(aps(divisors), ("imbalance", "imbalance-steady"), seeds=8, profile="full-quick")
        claims = ("rarer-more", "rarer-more-steady", "rarest-divisor")
        return [judged(of, claim, "full-quick").word for claim in claims]

    assert words(["positives"]) == ["confirmed", "undecided", "confirmed"]
    assert words(["positives", "moving"]) == ["confirmed", "confirmed", "undecided"]


def test_a_loss_that_does_not_train():
    def of(ap):
        return runs(lambda c: ap if c.loss == "hinge" else 30, ("3",))

    assert word(of(0.5), "hinge") == "confirmed" and word(of(29.0), "hinge") == "refuted"
    diverged = runs(lambda c: "x" if c.loss == "hinge" else 30, ("3",))
    assert word(diverged, "hinge") == "confirmed"


def test_what_is_counted_or_timed_is_a_measurement():
    of = runs(
        lambda c: 30, step_seconds=lambda c, rng: {"own": 1.2 + rng.normal(0, 0.01), "cross_entropy": 1.0}
    )
    found = judged(of, "rarity")
    assert (found.word, found.value) == ("measured", 2000)
    found = judged(of, "training-speed")
    assert found.word == "measured" and 1.1 < found.low < found.high < 1.3


# ---- the primary family


@pytest.fixture
def family(monkeypatch):
    """The profile of made-up records has the family, as the protocol wants it."""
    smoke = PROFILES["smoke"]
    has = replace(smoke, ablations=(*smoke.ablations, "primary", "grid"), repeats={"primary": 8, "ridge": 2})
    monkeypatch.setitem(PROFILES, "smoke", has)


def primary(gain, searched=True, seeds=8):
    of = runs(lambda c: 30 + gain * (c.gamma > 0), ("primary",), seeds)
    if searched:
        for config in get_ablation("lr").configs(PROFILES["smoke"].base, range(2)).values():
            tune = 20 + 5 * (config.alpha == 0.75) + config.lr
            of.append(record(config, 30.0, tune={"AP": tune}))
    return of


def test_the_best_tuned_cross_entropy_is_chosen_on_tune_images(family):
    found = judged(primary(3.0), "fl-tuned-ce")
    assert found.word == "confirmed" and found.primary and "CE, α = .75" in found.remark and found.seeds == 8
    assert word(primary(3.0, searched=False), "fl-tuned-ce") == "not run"


def test_a_primary_claim_has_no_verdict_before_all_its_seeds(family):
    whole, early = (judged(primary(3.0, seeds=n), "fl-tuned-ce") for n in (8, 2))
    assert (whole.word, early.word) == ("confirmed", "not judged yet")
    assert early.low > 0 and early.p < 0.05 and early.wanted == 8, "though it looks clear"


@pytest.mark.parametrize(("seeds", "word"), [(1, "not judged yet"), (2, "not judged yet"), (3, "confirmed")])
def test_a_profile_without_the_family_judges_each_claim_alone(seeds, word):
    found = judged(primary(3.0, seeds=seeds), "fl-tuned-ce")
    assert not found.primary and found.p == found.estimate.p and found.word == word


def test_nothing_is_picked_where_no_tune_image_has_an_object():
    for nowhere, said in (({}, "undecided"), ({"tune": lambda c, rng: {"AP": None}}, "not run")):
        assert word(runs(lambda c: 30 - 10 * (c.alpha == 0.1), **nowhere), "fl-best-alpha") == said


def test_the_family_is_judged_together_and_nothing_else_is(family):
    of = primary(0.42)
    found = judged(of, "fl-hard-negatives")
    alone = Evidence(study(of))
    raw = alone.difference(alone.row("primary", gamma=2.0), alone.row("primary", loss="hard_negatives"))
    assert raw.p < found.p <= 4 * raw.p
    assert found.low < raw.low and found.high > raw.high, "its interval is that of the adjusted level"
    assert (found.word == "confirmed") == (found.low > 0) == (found.p < 0.05)
    assert not judged(runs(lambda c: 30), "fl-plain-ce").primary


def test_the_ridge(family):
    def of(fall):
        best = {0.0: 0.9, 2.0: 0.25 if fall else 0.9}
        return runs(lambda c: 30 - 9 * abs(c.alpha - best.get(c.gamma, 0.5)), ("grid",), 2)

    found = judged(of(True), "ridge")
    assert found.word == "confirmed" and found.value == 1 and found.primary
    assert word(of(False), "ridge") == "undecided"
    assert not judged(of(True), "ridge-05").primary
    level = cut(
        runs(lambda c: 30 - 9 * c.alpha, ("grid",), 2), lambda c: 15 * (c.gamma == 0 and c.alpha < 0.5)
    )
    assert word(level, "ridge") == "undecided"
    there = judged(level, "ridge-05")
    assert (
        there.direction > 0
        and there.remark == "highest at α = 0.5 for γ = 0 and at α = 0.1, the lowest tried, for γ = 2"
    )
    assert found.p == pytest.approx(2 / 201 * 4), "two-sided, of 200 resamples, the first of four"
    alone = judged(runs(lambda c: 30 - c.gamma * c.alpha, ("grid",), 1), "ridge")
    assert alone.word == "not judged yet" and "one seed" in alone.how


def test_a_question_has_one_answer(family):
    """The best α is that of the best-tuned cross entropy: both are one difference of the same runs."""
    of = primary(0.42)
    there = {r.config for r in of}
    of += [r for r in runs(lambda c: 20 + 9 * (c.alpha == 0.75), ("1a",), 8) if r.config not in there]
    asked, again = (judged(of, claim) for claim in ("fl-tuned-ce", "fl-best-alpha"))
    assert (again.word, again.low, again.high, again.p) == (asked.word, asked.low, asked.high, asked.p)
    assert asked.primary and again.estimate.p < again.p and "a primary claim" in again.how


def test_no_other_claim_is_judged_before_three_seeds(family):
    early, whole = (judged(runs(lambda c: 30 + 3 * (c.gamma == 2), seeds=n), "fl-plain-ce") for n in (2, 3))
    assert (early.word, whole.word) == ("not judged yet", "confirmed") and early.low > 0 and early.wanted == 3


def test_a_row_is_picked_on_tune_images_and_judged_on_others():
    def of(c):
        return 30 + 3 * (c.alpha == 0.75) if c.gamma == 0 else 35

    best = judged(runs(of), "fl-best-alpha")
    assert "best on tune images is α = 0.75" in best.remark and best.value == pytest.approx(2, abs=0.7)
    other = judged(runs(of, tune=lambda c, rng: {"AP": 40.0 * (c.alpha == 0.25)}), "fl-best-alpha")
    assert "best on tune images is α = 0.25" in other.remark and other.value == pytest.approx(5, abs=0.7)


def test_a_lead_that_shrinks_is_a_difference_of_differences():
    def of(late):
        lead = {250: 6.0}
        return runs(
            lambda c: 30 + lead.get(c.steps, late) * (c.gamma == 2), ("budget",), profile="full-quick"
        )

    found = [v for late in (0.0, 6.0) for c, v in judge_all(Evidence(study(of(late), "full-quick")))]
    shrinks = [v for v in found if v.estimate and len(v.estimate.levels) == 4]
    assert [v.word for v in shrinks] == ["confirmed", "undecided"]
    assert shrinks[0].value == pytest.approx(6, abs=1)

"""Verdicts on made-up runs whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from focalrepro.claim_statistics import best_cross_entropy
from focalrepro.claims import CLAIMS, QUESTIONS, judge_all, ledger
from focalrepro.results import table
from scipy import stats

from focalrepro import evidence, seed_spread
from focalrepro.evidence import UNKNOWN_SEED_MARGIN, Evidence, holm
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES


def records(aps, seeds=3, seed_sd=0.3, image_sd=0.8, ablations=("1a", "1b"), **extra):
    """Runs of the smoke profile: AP by (gamma, alpha), the same luck of the images for all rows."""
    rng = np.random.default_rng(0)
    images = rng.normal(0, image_sd, 200)
    found = {}
    for name in ablations:
        for config in get_ablation(name).configs(PROFILES["smoke"].base, range(seeds)).values():
            ap = aps(config) + rng.normal(0, seed_sd)
            found[config] = {
                "run_id": config.run_id("a", "b"),
                "status": "done",
                "config": config.as_dict(),
                "metrics": {"AP": ap, "AP50": ap, "AP75": ap, "APs": None, "APm": None, "APl": None},
                "bootstrap": {"AP": (ap + images + rng.normal(0, 0.1, 200)).tolist()},
                "anchors": {"per_image": 12_000, "positive_per_image": 6.0},
                "hardware": {"cpu": "a machine", "threads": 1},
                "images_per_second": 100.0 + rng.normal(0, 1),
                "calibration": {"error": 0.1 - 0.02 * (config.gamma > 0) + rng.normal(0, 1e-3)},
                **extra,
            }
    return list(found.values())


def verdict(of, sentence):
    (found,) = [v for claim, v in judge_all(of, "smoke") if claim.sentence.startswith(sentence)]
    return found.verdict


BETTER = "Focal loss (γ = 2, α = .25) beats the best α"


def test_a_clear_gain_is_confirmed_and_a_clear_loss_refuted():
    assert verdict(records(lambda c: 30 + 3 * (c.gamma == 2)), BETTER) == "confirmed"
    assert verdict(records(lambda c: 30 - 3 * (c.gamma == 2)), BETTER) == "refuted"


def test_a_small_gain_is_undecided():
    assert verdict(records(lambda c: 30 + 0.2 * (c.gamma == 2)), BETTER) == "undecided"


def test_one_seed_needs_more_than_the_usual_luck_of_a_seed():
    one = {"seeds": 1, "seed_sd": 0.0}
    assert verdict(records(lambda c: 30 + 0.4 * (c.gamma == 2), **one), BETTER) == "undecided"
    assert verdict(records(lambda c: 30 + 2.0 * (c.gamma == 2), **one), BETTER) == "confirmed"
    evidence = Evidence(records(lambda c: 30 + 2.0 * (c.gamma == 2), **one), "smoke")
    found = evidence.difference(evidence.row("1b", gamma=2.0), evidence.row("1a", alpha=0.75))
    assert found.high - found.effect > UNKNOWN_SEED_MARGIN and "1 seed" in found.how


def test_one_seed_borrows_the_spread_of_the_committed_ones(monkeypatch):
    kept = []
    monkeypatch.setattr(evidence, "load_records", lambda profile, committed: kept)
    one = records(lambda c: 30 + 4.0 * (c.gamma == 2), seeds=1, seed_sd=0.0)
    found = []
    for _ in range(2):
        e = Evidence(one, "smoke")
        found.append(e.difference(e.row("1b", gamma=2.0), e.row("1a", alpha=0.75)))
        kept += records(lambda c: 30, seeds=3, seed_sd=3.0)
    alone, borrowed = found
    assert alone.low > 0 > borrowed.low and "committed" in borrowed.how and "committed" not in alone.how


def test_pairing_by_image_takes_out_the_images_luck():
    evidence = Evidence(records(lambda c: 30, image_sd=8.0), "smoke")
    found = evidence.difference(evidence.row("1b", gamma=2.0), evidence.row("1a", alpha=0.75))
    assert found.high - found.low < 3


def test_a_row_that_moves_with_its_seed_widens_its_differences():
    steady = records(lambda c: 30 + 3 * (c.gamma == 2))
    shaken = [
        r | {"metrics": r["metrics"] | {"AP": r["metrics"]["AP"] + 5 * (r["config"]["seed"] - 1)}}
        if r["config"]["gamma"] == 2
        else r
        for r in steady
    ]
    found = []
    for of in (steady, shaken):
        e = Evidence(of, "smoke")
        found.append(e.difference(e.row("1b", gamma=2.0), e.row("1a", alpha=0.75)))
    assert found[0].effect == pytest.approx(found[1].effect) == pytest.approx(3, abs=0.5)
    assert found[0].low > 0 > found[1].low


def test_rows_that_find_nothing_do_not_steady_the_others():
    dead = records(lambda c: 0.5 * (c.gamma == 0) + 30 * (c.gamma > 0), seed_sd=0.0)
    for r in dead:
        if r["config"]["gamma"] > 0:
            r["metrics"]["AP"] += r["config"]["seed"]
    assert Evidence(dead, "smoke").seeds.variance == pytest.approx(1.0)


def test_the_baseline_to_beat_is_tuned_in_alpha_and_pi():
    def of(best):
        level = {(0.9, 0.001): best}
        return records(
            lambda c: 30.0 if c.gamma else level.get((c.alpha, c.prior), 20.0), ablations=("tuned",)
        )

    sentence = "Focal loss (γ = 2, α = .25, π = .01)"
    assert verdict(of(25.0), sentence) == "confirmed" and verdict(of(35.0), sentence) == "refuted"
    (found,) = [v for c, v in judge_all(of(35.0), "smoke") if c.sentence.startswith(sentence)]
    assert "α = 0.9, π = 0.001" in found.effect and "−5" in found.effect


def test_calibration_is_judged_against_unweighted_cross_entropy():
    of = records(lambda c: 30)
    for r in of:
        if r["config"]["gamma"] == 0 and r["config"]["alpha"] == 0.5:
            r["calibration"] = {"error": 0.01}
    assert verdict(of, "Focal loss is better calibrated") == "refuted"


def test_collapse_and_best_alpha():
    aps = {0.1: 0.1, 0.25: 10, 0.5: 30, 0.75: 33, 0.9: 31, 0.99: 28, 0.999: 25}
    of = records(lambda c: aps[c.alpha] if c.gamma == 0 else 30)
    assert verdict(of, "Cross entropy with α = .10") == "confirmed"
    assert verdict(of, "The best α for cross entropy") == "confirmed"
    late = records(lambda c: aps[c.alpha] + 20 * (c.alpha == 0.99) if c.gamma == 0 else 30)
    assert verdict(late, "The best α for cross entropy") == "refuted"
    assert verdict(records(lambda c: 30), "Cross entropy with α = .10") == "refuted"


def test_counted_and_timed_claims():
    of = records(lambda c: 30)
    assert verdict(of, "Assigned anchors") == "confirmed"
    assert verdict(of, "Focal loss does not slow training") == "confirmed"
    assert verdict(of, "Focal loss is better calibrated") == "confirmed"
    slow = [r | {"images_per_second": 100.0 - 30 * (r["config"]["gamma"] > 0)} for r in of]
    for i, r in enumerate(slow):
        r["images_per_second"] += i % 3
    assert verdict(slow, "Focal loss does not slow training") == "refuted"
    timed = [r | {"inference_ms": 10.0 + 0.01 * i + 5 * (r["config"]["gamma"] > 0)} for i, r in enumerate(of)]
    assert verdict(timed, "Focal loss does not slow inference") == "refuted"
    even = [r | {"inference_ms": 10.0 + 0.01 * i} for i, r in enumerate(of)]
    assert verdict(even, "Focal loss does not slow inference") == "confirmed"
    assert verdict(of, "Focal loss does not slow inference") == "not run"


@pytest.mark.parametrize(("ratio", "word"), [(1.0, "confirmed"), (1.05, "undecided"), (1.2, "refuted")])
def test_steps_in_turn_judge_the_cost_of_training(ratio, word):
    of = records(lambda c: 30)
    for i, r in enumerate(of):
        r["images_per_second"] = 10.0 + 90.0 * (i % 2)  # a busy machine says nothing
        r["step_seconds"] = {"own": ratio * (1 + 0.01 * (i % 3 - 1)), "cross_entropy": 1.0}
    assert verdict(of, "Focal loss does not slow training") == word


def test_ties():
    def aps(gap):
        return lambda c: 30 + gap * (c.loss == "focal_star")

    assert verdict(records(aps(0.0), seed_sd=0.05, ablations=("3",)), "FL* ties") == "confirmed"
    assert verdict(records(aps(5.0), seed_sd=0.05, ablations=("3",)), "FL* ties") == "refuted"
    assert verdict(records(aps(1.0), seed_sd=0.3, ablations=("3",)), "FL* ties") == "undecided"


def test_what_is_tied_depends_on_how_much_there_is():
    def of(level, seed_sd=0.02):
        return records(lambda c: level + 0.7 * (c.loss == "focal_star"), seed_sd=seed_sd, ablations=("3",))

    assert verdict(of(30), "FL* ties") == "confirmed"
    assert verdict(of(5), "FL* ties") == "refuted"  # 0.7 of 5 points is no tie


def test_a_plateau_is_as_good_as_its_worst():
    def aps(at_five):
        return lambda c: 30 + 3 * (c.gamma >= 0.5) + (at_five - 33) * (c.gamma == 5)

    sentence = "Any γ from .5 to 5"
    assert verdict(records(aps(32.0)), sentence) == "confirmed"
    assert verdict(records(aps(27.0)), sentence) == "refuted"


def test_depth_size_and_stages():
    def aps(c):
        return (
            30 + 3 * (c.backbone == "small_deep") - (128 - c.image_size) / 8 - 5 * (c.detector != "retinanet")
        )

    of = records(aps, ablations=("1e",))
    assert verdict(of, "A deeper backbone") == "confirmed"
    assert verdict(of, "Larger images") == "confirmed"
    assert verdict(of, "One stage with focal loss reaches") == "confirmed"
    behind = records(lambda c: 30 + 5 * (c.detector != "retinanet"), ablations=("1e",))
    assert verdict(behind, "One stage with focal loss reaches") == "refuted"


def test_half_of_the_images_is_enough_where_it_is_no_worse():
    def aps(gain):
        return lambda c: 30 + gain * (c.gamma == 2) + 4 * c.train_fraction

    sentence = "Focal loss on half of the images"
    assert verdict(records(aps(10), ablations=("data",)), sentence) == "confirmed"
    assert verdict(records(aps(0), ablations=("data",)), sentence) == "refuted"


def test_a_loss_that_is_only_faster_is_told_from_one_that_is_better():
    def aps(late):
        return lambda c: 10 * np.log2(c.steps) + (10 if c.gamma == 2 else 0) * (c.steps < 6 or late)

    faster, better = (records(aps(late), ablations=("budget",)) for late in (False, True))
    assert verdict(faster, "Twice the steps bring") == "confirmed" == verdict(better, "Twice the steps bring")
    assert verdict(better, "After twice the steps") == "confirmed"
    assert verdict(faster, "After twice the steps") == "undecided"


def test_a_loss_that_does_not_train():
    def aps(ap):
        return lambda c: ap if c.loss == "hinge" else 30

    sentence = "The hinge loss"
    assert verdict(records(aps(0.5), ablations=("3",)), sentence) == "confirmed"
    assert verdict(records(aps(29.0), ablations=("3",)), sentence) == "refuted"
    assert verdict(records(aps(8.0), ablations=("3",)), sentence) == "undecided"


def test_claims_of_other_ablations_are_left_to_the_profile_that_runs_them():
    quick = {claim.sentence for claim, _ in judge_all([], "quick")}
    whole = {claim.sentence for claim, _ in judge_all([], "full-quick")}
    assert quick < whole and len(whole) == len(CLAIMS)
    assert not any("OHEM" in sentence for sentence in quick)


def test_missing_runs_are_said_to_be_missing():
    assert {v.verdict for _, v in judge_all([], "smoke")} == {"not run"}
    text = ledger(records(lambda c: 30), "smoke")
    assert len(text.splitlines()) == len(CLAIMS) + len(QUESTIONS) + 2 and "needs grid" in text


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_the_correction_makes_a_verdict_harder():
    of = records(lambda c: 30 + 0.72 * (c.gamma == 2))
    found = {claim.sentence: v for claim, v in judge_all(of, "smoke") if v.p is not None}
    alone = Evidence(of, "smoke")
    raw = alone.difference(alone.row("1b", gamma=2.0), best_cross_entropy(alone)).p
    (judged,) = [v for sentence, v in found.items() if sentence.startswith(BETTER)]
    assert len(found) == 5 and raw < 0.05 < judged.p and judged.verdict == "undecided"


def test_the_best_of_some_rows_is_not_the_best_of_all():
    of = [r for r in records(lambda c: 30 + 3 * (c.gamma == 2)) if r["config"]["alpha"] < 0.9]
    for sentence in (BETTER, "The best α for", "Cross entropy with α = .10", "Any γ from .5"):
        assert verdict(of, sentence) == "not run", sentence


def test_intervals_cover_where_rows_spread_unlike():
    """Rows whose variances are drawn from an inverse χ² with four degrees of freedom, three seeds each."""
    rng = np.random.default_rng(1)
    sds = np.sqrt(4 / rng.chisquare(4, (100, 30)))
    covered, widths = 0, []
    for trial in sds:
        seeds = 30 + trial[:, None] * rng.standard_normal((30, 3))
        frame = pd.DataFrame(
            {
                "sd": seeds.std(axis=1, ddof=1),
                "AP": 30.0,
                "seeds": 3,
                "run_ids": [(str(i),) for i in range(30)],
            }
        )
        found = seed_spread.fit([frame])
        variance, freedom = found.of(list(seeds[0]))
        half = stats.t.ppf(0.975, freedom) * np.sqrt(variance / 3)
        covered += abs(seeds[0].mean() - 30) < half
        widths.append(found.weight)
    assert covered >= 90 and 2 < np.median(widths) < 8


def test_rows_that_spread_alike_are_pooled():
    rng = np.random.default_rng(2)
    seeds = 30 + rng.standard_normal((200, 3))
    frame = pd.DataFrame(
        {"sd": seeds.std(axis=1, ddof=1), "AP": 30.0, "seeds": 3, "run_ids": [(str(i),) for i in range(200)]}
    )
    found = seed_spread.fit([frame])
    assert found.weight > 20 and found.variance == pytest.approx(1.0, abs=0.15)


def test_two_seeds_have_an_interval_around_their_mean():
    of = records(lambda c: 30, seeds=2, seed_sd=4.0)
    frame = table(of, "smoke", "1a")
    assert (
        (frame["seeds"] == 2).all()
        and (frame["low"] < frame["AP"]).all()
        and (frame["AP"] < frame["high"]).all()
    )


def test_runs_on_different_data_are_no_seeds_of_one_row():
    of = records(lambda c: 30)
    for r in of:
        r["data"] = {"train": {"images": 9, "digest": "a"}, "val": {"digest": "b"}}
    assert len(table(of, "smoke", "1a")) == 7
    of[0]["data"] = {"train": {"images": 9, "digest": "a"}, "val": {"digest": "c"}}
    with pytest.raises(ValueError, match=of[0]["run_id"]):
        table(of, "smoke", "1a")


def test_claims_on_another_dataset_read_its_runs():
    of = records(lambda c: 30 + 3 * (c.gamma == 2))
    for r in of:
        r["config"]["dataset"] = "mine"
    assert {v.verdict for _, v in judge_all(of, "smoke")} <= {"not run", "refuted", "confirmed"}
    judged = {c.sentence: v.verdict for c, v in judge_all(of, "smoke", "mine")}
    (word,) = [v for sentence, v in judged.items() if sentence.startswith(BETTER)]
    assert word == "confirmed"
    assert verdict(of, BETTER) == "not run"

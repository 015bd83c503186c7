"""`focalrepro.Study`: what it says of its records, and what it trains where a plane is missing."""

import re
from dataclasses import replace

import numpy as np
import pytest
from made_up import commit, quick_runs, record, runs

import focalrepro
from focalrepro.evidence import tables
from focalrepro.evidence.claims import CLAIMS
from focalrepro.evidence.difference import Estimate
from focalrepro.evidence.verdict import Verdict, over_seeds, verdict_of
from focalrepro.show import sentences
from focalrepro.study.profiles import PROFILES
from focalrepro.study.store import Store


def test_a_study_says_what_its_records_say(results):
    s = focalrepro.Study("quick", records=quick_runs())
    assert s.table("1b").set_index("row").loc["γ = 2, α = 0.25", "AP"] == pytest.approx(33, abs=1)
    assert len(s.figure("1b").axes) == 2
    claims = s.claims("1a")
    assert list(claims.columns) == ["verdict", "claim", "effect (95 %)", "by"]
    assert "confirmed" in set(claims["verdict"]) and len(s.claims()) > len(claims)
    assert any("[.5, .9]" in text for text in claims["claim"]), "as it is read, without Markdown's escapes"
    assert "**confirmed**" in (said := sentences.verdicts(s.evidence, "1a")) and "not run" not in said
    with pytest.raises(AttributeError, match="no attribute 'Stduy'"):
        focalrepro.Stduy  # noqa: B018


def test_a_takeaway_says_ap_for_what_it_speaks_and_what_is_adjusted(results):
    commit(runs(lambda c: 30 + 3 * (c.gamma == 2), ("primary", "lr"), 8, profile="full-quick"), "full-quick")
    said = focalrepro.Study("full-quick").takeaway("fl-hard-negatives", "rarity").data
    assert re.search(r"\d AP \([^)]*, adjusted\); AP 33\.\d against 33\.\d\. \(`full-quick`; 8 seeds", said)
    assert "No runs judge yet: «Nine anchors beat one.» «More than" in (
        focalrepro.Study("full-quick").takeaway("nine-anchors", "more-anchors").data
    )
    against = over_seeds([-0.1, -0.2, -0.15], "calibration error", "")
    assert sentences._numbers(against).startswith("−0.150 calibration error (−0.274")
    assert sentences.verdict_word(against) == "measured, against it"
    assert sentences.verdict_word(over_seeds([-0.1, 0.2, 0.15], "calibration error", "")) == "measured"
    claims_nothing = verdict_of(Estimate(-5.0, 1.0, 9.0, 3), "measured")
    assert sentences._numbers(claims_nothing).startswith("−5.0 AP (")
    assert sentences.verdict_word(claims_nothing) == "measured"
    apart = replace(against, word="not comparable", remark="far apart")
    assert sentences._numbers(apart).endswith("); far apart.")


def test_what_another_page_has_is_shown_as_there(results):
    """An interval holds the spread of all of a page's runs: those of `quick` are not added to it."""
    commit(runs(lambda c: 30, ("prior", "primary"), 3, 0.5, profile="full-quick"), "full-quick")
    commit(quick_runs(seeds=5, seed_sd=4.0))
    here, there = focalrepro.Study("quick"), focalrepro.Study("full-quick")
    assert here.comparison("prior").equals(there.comparison("prior"))
    reference = next(iter(there.rows("prior")))
    assert here.gains("prior", reference).equals(there.gains("prior", reference))
    high = here.table("prior")["high"]
    assert here.table("prior").equals(there.table("prior")) and not high.isna().any()
    assert not np.allclose(high, tables.table(here.evidence, "prior")["high"]), "it matters whose spread"
    clear, claimed = there.gains("primary", "FL, γ = 2")["clear"], ["hard negatives 1:3", "Sampling-Free"]
    assert (clear[claimed] == "see the primary claim").all()
    assert {"yes", "no"} & set(clear.drop(claimed)), "what no claim asks is judged by its interval"


def test_half_a_local_campaign_of_the_whole_blanks_no_table(results):
    commit(runs(lambda c: 30, ("prior",), 1, profile="full-quick"), "full-quick")
    commit(quick_runs())
    before = focalrepro.Study("quick").comparison("prior")
    Store.local("full-quick").put(record(PROFILES["full-quick"].base, 20.0))
    assert focalrepro.Study("quick").comparison("prior").equals(before)


def test_a_line_stands_for_what_has_no_rows_and_one_for_what_can_be_run():
    s = focalrepro.Study("coco-cpu", records=[])
    line = sentences.missing(s, "imbalance", "grid")
    assert "no such rows: " in line and "focalrepro run grid --profile coco-cpu" in line
    assert s.shown() == [], "what has no rows is not complete"


def test_whose_rates_a_claim_speaks_of(monkeypatch):
    monkeypatch.delitem(PROFILES["coco-cpu"].rates, "Quality focal loss")
    coco, smoke = focalrepro.Study("coco-cpu", records=[]), focalrepro.Study("smoke", records=[])
    searched, rival = CLAIMS["fl-hard-negatives"], CLAIMS["rival-quality"]
    assert "each at its own rate" in sentences.said(searched, coco)
    assert "each at its own rate" in sentences.said(CLAIMS["rival-ghm"], coco), "whatever its table lacks"
    assert "at the rates that the table names" in sentences.said(rival, coco), "no search chose one"
    assert "all at one rate" in sentences.said(searched, smoke)


def test_claims_are_judged_where_their_runs_are(results):
    commit(runs(lambda c: 30, ("1d", "3"), profile="full-quick"), "full-quick")
    said = sentences.verdicts(focalrepro.Study("quick").evidence, "1d", "3")
    assert "best of the paper's nine rows of OHEM" in said and "FL\\* ties" in said
    assert "π" not in said and said.startswith("As judged for profile `full-quick`:\n\n|")


def test_what_ones_own_runs_lack_is_said_by_the_whole(results):
    """Records that are older than a measure judge nothing by it, and do not hide those that have it."""
    looks = {"step": [0, 60, 1000], "loss": [0.1, 0.8, 0.8], "gradient": [0.1, 0.6, 0.6]}
    commit(runs(lambda c: 30, ("1a",), profile="full-quick", on_objects=looks), "full-quick")
    commit(quick_runs())
    said = focalrepro.Study("quick").takeaway("drowns", "best-alpha").data
    assert "30.0 points below half of the loss" in said and "(`full-quick`; 3 seeds" in said
    assert "Does not apply" not in said and "(`quick`; 3 seeds" in said, "what they judge is theirs"


def test_a_share_of_resamples_has_a_digit_more_where_that_decides():
    shares = {0.9753: "97.5", 0.024: "2.4", 0.9: "90", 0.999: "100"}
    for share, said in shares.items():
        assert (
            sentences.effect(Verdict("undecided", share, unit="of resamples"))
            == f"true in {said} % of resamples"
        )


def test_what_was_asked_after_the_runs_says_so():
    late, early = CLAIMS["five-05"], CLAIMS["gamma-five"]
    confirmed = Verdict("confirmed")
    assert sentences._explored(late, confirmed) == "; exploratory, asked after the runs had been seen"
    assert sentences._explored(early, confirmed) == "; exploratory"
    assert sentences._explored(late, replace(confirmed, primary=True)) == ""
    assert sentences._explored(late, Verdict("measured")) == ""


def test_a_plane_is_trained_where_it_is_missing(results, monkeypatch):
    made = []

    def train(missing, store, *args):
        made.extend(p.config for p in missing)
        for p in missing:
            store.put(record(p.config, 10 * p.config.gamma + p.config.alpha))
        return 0

    monkeypatch.setattr("focalrepro.study.study.run_planned", train)
    smoke = PROFILES["smoke"]
    s = focalrepro.Study("smoke")
    s.base = smoke.base.replace(score_threshold=0.0)
    frame = s.grid([0, 2], [0.25, 0.75])
    assert frame.loc[0.75, 2.0] == 20.75 and frame.shape == (2, 2) and len(made) == 4
    assert np.isfinite(s.grid([0, 2], [0.25]).to_numpy()).all() and len(made) == 4, "nothing twice"
    assert s.grid([1], [0.25], seeds=0).loc[0.25, 1.0] == 10.25, "as many as the profile has"


@pytest.mark.parametrize(
    ("gammas", "alphas", "seeds", "said"),
    [
        ([2], [0.25], -1, "seeds is -1; it must be 1 … 1000"),
        ([2], [0.25], "3", "seeds is '3'; it must be 1 … 1000"),
        ([2], [0.25], 2.0, "seeds is 2.0; it must be 1 … 1000"),
        (2, [0.25], 1, "gammas is 2; give a list of numbers"),
        ("20", [0.25], 1, "gammas is '20'; give a list of numbers"),
        ([2], "0.25", 1, "alphas is '0.25'; give a list of numbers"),
        ([], [0.25], 1, "gammas is .*; give a list of numbers"),
    ],
)
def test_what_a_plane_refuses(gammas, alphas, seeds, said):
    with pytest.raises(ValueError, match=said):
        focalrepro.Study("smoke").grid(gammas, alphas, seeds)


def test_a_study_of_given_records_keeps_them(results):
    given = runs(lambda c: 30 + c.gamma, ("1b",), 1, profile="smoke")
    s = focalrepro.Study("smoke", records=given)
    assert s.grid([2, 2], [0.25]).loc[0.25, 2.0] == pytest.approx(32, abs=1.5) and s.records == given
    with pytest.raises(ValueError, match="1 runs are missing among the records that this study was given"):
        s.grid([2], [0.3])


def test_an_unknown_ablation_has_no_claims():
    with pytest.raises(ValueError, match="there is no ablation 'nope'"):
        focalrepro.Study("smoke", records=[]).claims("nope")


def test_a_claim_on_rows_that_this_data_does_not_have_does_not_apply():
    said = focalrepro.Study("coco-cpu", records=[]).takeaway("divisor-images", "ahead-after-four").data
    cannot, lacking = said.split("No runs judge yet")
    assert "Does not apply to this data" in cannot and "one more in the divisor" in cannot
    assert "four times the steps" in lacking and "focalrepro run long --profile coco-cpu" in lacking

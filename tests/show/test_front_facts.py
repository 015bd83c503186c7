"""What fills the front page's sentences, on made-up records whose truth is known."""

import re
from pathlib import Path

import numpy as np
import pytest
from made_up import record, runs, study

from focalrepro.evidence.claims import CLAIMS, judge_all
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.statistics import background, drowns
from focalrepro.evidence.verdict import Verdict
from focalrepro.show import front_facts, pages
from focalrepro.show.speakers import Verdicts
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES
from focalrepro.study.study import Study


def primary(lead: float, own: float) -> Evidence:
    """Eight seeds of the primary rows and their search: a seed moves all rows alike by up to 3 AP, and each
    by about `own` besides; focal loss is ahead by `lead`."""
    profile, rng = PROFILES["coco-cpu"], np.random.default_rng(1)
    luck, images = rng.uniform(-3, 3, 8), rng.normal(0, 0.1, 200)
    found = []
    for name in ("lr", "primary"):
        for config in get_ablation(name).configs(profile.base, range(8), profile.rates).values():
            ap = (
                20.0
                + lead * (config.loss == "focal" and config.gamma == 2)
                + luck[config.seed % 8]
                + own * rng.normal()
            )
            found.append(record(config, ap, ap + images, tune={"AP": ap}))
    return Evidence(study(found, "coco-cpu"))


@pytest.mark.parametrize(("lead", "otherwise"), [(1.0, 3), (0.0, 0)])
def test_seeds_that_move_together_hide_a_lead_unless_they_are_paired(lead, otherwise):
    e = primary(lead, own=0.1)
    judged = {"coco-cpu": Verdicts({c.id: v for c, v in judge_all(e) if v.word != "not run"})}
    differences = ("fl-tuned-ce", "fl-hard-negatives", "fl-sampling-free")
    assert [judged["coco-cpu"][claim].word for claim in differences] == ["undecided"] * 3
    count, asked, told = front_facts.by_seed([e], judged, {"coco-cpu": "on real COCO"})
    assert (count, asked) == (otherwise, 3)
    assert told.count("on real COCO +") == otherwise and told.count("adjusted") == otherwise


def test_a_share_that_was_not_measured_is_not_told():
    shares = {"drowns": "10 % at the end", "drowns-gradient": "51 % at the end"}
    verdicts = {k: Verdict("measured", remark=f"the background has {text}") for k, text in shares.items()}
    assert front_facts.drowns(verdicts) == ["10 % at the end", "51 % at the end"]
    assert front_facts.drowns({"drowns": verdicts["drowns"]}) == []


def test_a_share_is_of_what_a_training_divides(results):
    """Where three records, or all, tell the share as the loss is divided it is that; else that of the sum."""
    looks = {"step": [0, 20, 1000], "loss": [0.1, 0.5, 0.8], "gradient": [0.1, 0.5, 0.6]}
    divided = looks | {"divided_loss": [0.05, 0.3, 0.7], "divided_gradient": [0.02, 0.2, 0.5]}
    rows = ("1a", "1b", "prior", "imbalance")
    e = Evidence(
        Study("full-quick", records=runs(lambda c: 30, rows, profile="full-quick", on_objects=looks))
    )
    found = background(e, e.row("1a", alpha=0.5), "loss")
    assert not found.divided and found.shares.mean(0).tolist() == pytest.approx([90, 50, 20])
    assert "(undivided)" in drowns(e, "loss").remark
    assert front_facts.focal_ends(e) == ["20", "40"] and front_facts.drowns_longer(e) == {}

    made = runs(lambda c: 30, rows, profile="full-quick", on_objects=divided)
    alone = Evidence(Study("full-quick", records=[r for r in made if r.seed == made[0].seed]))
    assert background(alone, alone.row("1a", alpha=0.5), "loss").divided, "a newcomer's single seed"
    e = Evidence(Study("full-quick", records=made))
    found = background(e, e.row("1a", alpha=0.5), "gradient")
    assert found.divided and found.shares.mean(0).tolist() == pytest.approx([98, 80, 50])
    assert "undivided" not in drowns(e, "gradient").remark
    assert front_facts.focal_ends(e) == ["30", "50"]
    assert front_facts.drowns_longer(e) == {f"one in {n}": "70" for n in ("100", "1,000", "10,000")}


def test_templates_ask_what_was_judged():
    of = Verdicts({"sooner": Verdict("confirmed"), "ridge": Verdict("not judged yet", seeds=2, wanted=3)})
    assert of.has("sooner", "ridge") and not of.has("sooner", "drowns")
    assert of.judged("sooner") and not of.judged("sooner", "ridge") and not of.judged("drowns")
    assert of.confirmed("sooner") and not of.confirmed("ridge") and not of.confirmed("drowns")
    assert [*map(of.word, ("sooner", "ridge", "drowns"))] == ["clearly better", "not judged yet", ""]
    assert of.seeds("ridge") == "2 of 3 seeds"


@pytest.mark.parametrize("page", ["front", "evidence"])
def test_templates_ask_for_claims_that_there_are(page):
    text = (Path(pages.__file__).parent / "templates" / f"{page}.md.j2").read_text()
    ways = "has|judged|ahead|confirmed|word|gap|effect|levels|seeds|clear|ours|that_judged"
    asked = re.findall(rf"\b(?:{ways})\(([^()]*)\)", text)
    claims = {claim for given in asked for claim in re.findall(r'"([^"]+)"', given)}
    assert len(claims) > 10 and not claims - CLAIMS.keys()

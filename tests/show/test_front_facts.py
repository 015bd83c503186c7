"""What fills the front page's sentences, on made-up records whose truth is known."""

import numpy as np
import pytest
from made_up import record, study

from focalrepro.evidence.claims import judge_all
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.verdict import Verdict
from focalrepro.show import front_facts
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES


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
    judged = {"coco-cpu": {c.id: v for c, v in judge_all(e) if v.word != "not run"}}
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


@pytest.mark.parametrize(
    ("found", "fit", "closer"),
    [("undecided", "confirmed", True), ("confirmed", "confirmed", False), ("undecided", "undecided", False)],
)
def test_boxes_that_fit_are_the_gain_only_where_no_more_is_found(found, fit, closer):
    verdicts = {"finds-more": Verdict(found), "fits-better": Verdict(fit)}
    assert front_facts.closer(verdicts) is closer
    assert front_facts.closer({"fits-better": Verdict("confirmed")}) is False

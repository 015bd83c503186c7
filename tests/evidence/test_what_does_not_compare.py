"""Where there is nothing to compare there is no verdict: no object that judges, or machines that differ."""

import numpy as np
import pytest
from made_up import changed, runs, study

from focalrepro.evidence import rates
from focalrepro.evidence.claims import CLAIMS, judge_all
from focalrepro.evidence.difference import MEASURES, Evidence, shared
from focalrepro.evidence.made_twice import mixed
from focalrepro.evidence.statistics import best_alpha
from focalrepro.show.profile_page import page

NOTHING = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"))
GPU = {"hardware": {"device": "cuda", "gpu": "a GPU"}}

pytestmark = pytest.mark.usefixtures("nothing_committed")


def test_images_without_an_object_judge_nothing():
    """As own data may have it, whose few objects all lie on tune images."""
    none = {"AP": [None] * 8, "AP50": [None] * 8, "AP_at_05": [None] * 8}
    of = [
        changed(r, metrics=NOTHING, at_05={"AP": None}, agnostic={"AP": None}, bootstrap=none)
        for r in runs(lambda c: 30 + c.gamma, ("1a", "1b", "grid"), replicates=8)
    ]
    e = Evidence(study(of))
    for measure in ("AP", "at .05", "found", "fit", "agnostic"):
        assert e.difference(e.row("1b", gamma=2.0), e.row("1a", alpha=0.5), MEASURES[measure]) is None
    said = {c.id: v.word for c, v in judge_all(e)}
    for claim in ("best-alpha", "best-alpha-05", "ridge", "fits-better", "fl-best-alpha", "finds-more"):
        assert said[claim] == "not run"
    assert "**No test image has an object, so nothing can be judged.**" in page(e.study)[0]


def test_a_resample_without_an_object_speaks_for_no_row():
    e = Evidence(study(runs(lambda c: 30.0 + 5 * (c.alpha == 0.75), ("1a",), seed_sd=0.1)))
    whole = best_alpha(e)
    assert whole.word == "confirmed" and whole.value == 1
    for records in e.study.rows("1a").values():
        for r in records:
            object.__setattr__(r, "bootstrap", r.bootstrap.model_copy(update={"AP": r.bootstrap.AP.copy()}))
            r.bootstrap.AP[:20] = np.nan
    assert best_alpha(Evidence(e.study)).value == 1


def test_nothing_is_picked_among_rows_of_unlike_machines():
    focal = [
        changed(r, **GPU) if r.config.gamma == 2 else r
        for r in runs(lambda c: 30 - c.alpha, ("ridge",), 8, profile="coco-cpu")
    ]
    e = Evidence(study(focal, "coco-cpu"))
    assert e.whole("ridge") is None and CLAIMS["ridge"].judge(e) is None
    assert all(e.rows("ridge").values()), "but all are shown"
    assert any(line.startswith("ridge: no seed has runs of like machines") for line in mixed(e.study))
    like = Evidence(study([changed(r, **GPU) for r in focal], "coco-cpu"))
    assert like.whole("ridge") and not any(line.startswith("ridge") for line in mixed(like.study))


def test_no_rate_is_chosen_among_unlike_machines():
    of = runs(lambda c: 30.0, ("lr",), 2, profile="coco-cpu")
    assert rates.best(Evidence(study(of, "coco-cpu")), "lr")
    torn = [changed(r, **GPU) if r.config.lr > 2e-3 else r for r in of]
    assert rates.best(Evidence(study(torn, "coco-cpu")), "lr") == {}


def test_of_rows_that_share_no_pair_nothing_is_left():
    a, b = runs(lambda c: 30.0, ("1a",), 1)[:2]
    assert shared({"a": [a], "b": [b]})["a"] and a.pair == b.pair
    assert shared({"a": [a], "b": [changed(b, **GPU)], "c": []}) == {"a": [], "b": [], "c": []}

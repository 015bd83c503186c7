"""Where there is nothing to compare there is no verdict: no object that judges, or machines that differ."""

import numpy as np
import pytest
from made_up import changed, runs, study

from focalrepro.evidence import expected, rates
from focalrepro.evidence.claims import CLAIMS, NEVER, NOTHING, UNLIKE, judge_all
from focalrepro.evidence.difference import MEASURES, Evidence, shared
from focalrepro.evidence.made_twice import mixed
from focalrepro.evidence.statistics import best_alpha
from focalrepro.show import sentences
from focalrepro.show.profile_page import page

NO_OBJECT = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"))
GPU = {"hardware": {"device": "cuda", "gpu": "a GPU"}}

pytestmark = pytest.mark.usefixtures("nothing_committed")


def test_images_without_an_object_judge_nothing():
    """As own data may have it, whose few objects all lie on tune images."""
    none = {"AP": [None] * 8, "AP50": [None] * 8, "AP_at_05": [None] * 8}
    of = [
        changed(r, metrics=NO_OBJECT, at_05={"AP": None}, agnostic={"AP": None}, bootstrap=none)
        for r in runs(lambda c: 30 + c.gamma, ("1a", "1b", "grid"), replicates=8)
    ]
    e = Evidence(study(of))
    for measure in ("AP", "at .05", "found", "fit", "agnostic"):
        assert e.difference(e.row("1b", gamma=2.0), e.row("1a", alpha=0.5), MEASURES[measure]) is None
    said = {c.id: v.word for c, v in judge_all(e)}
    for claim in ("best-alpha", "best-alpha-05", "ridge", "fits-better", "fl-best-alpha", "finds-more"):
        assert said[claim] == "not run"
    assert "**No test image has an object, so nothing can be judged.**" in page(e.study)[0]
    assert expected.ranges(e.study) == {}, "nor is an AP expected"


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


def test_sides_of_unlike_machines_are_named_and_not_asked_for_again():
    """The rows of fewer images were made on a GPU, those of all images on a CPU."""
    of = runs(lambda c: 30.0, ("1a", "data"), profile="full-quick")
    torn = [changed(r, **GPU) if r.config.train_fraction < 1 else r for r in of]
    e, claim = Evidence(study(torn, "full-quick")), CLAIMS["half-the-images-best"]
    assert claim.judge(Evidence(study(of, "full-quick"))) and claim.judge(e) is None
    assert {c.id: v.how for c, v in judge_all(e)}[claim.id] == UNLIKE
    said = sentences.takeaway(e, claim.id)
    assert said.startswith("- Cannot be judged, as no seed of like machines is on both sides: ")
    assert "To make them" not in said


def test_a_diverged_run_is_why_a_claim_has_no_verdict():
    """Its errors and its scores judge nothing, but the data is not why."""
    tide = {"tide": {"Bkg": 1.0}}
    of = runs(lambda c: 30.0, ("1a", "1b"), profile="full-quick", **tide)
    e = Evidence(study(of, "full-quick"))
    assert {c.id: v.word for c, v in judge_all(e)}["background-fp"] == "undecided"
    first = next(i for i, r in enumerate(of) if r.config.gamma == 2 and r.config.loss == "focal")
    of[first] = changed(of[first], status="diverged", metrics=dict.fromkeys(NO_OBJECT, 0.0), tide=None)
    e = Evidence(study(of, "full-quick"))
    said = {c.id: v.how for c, v in judge_all(e)}
    assert said["background-fp"] == NOTHING and said["fl-all-classes"] == NEVER
    assert "a run diverged or found nothing" in sentences.not_run(e)


def test_finding_more_objects_leaves_how_closely_boxes_fit_as_it_is():
    """Both AP50 and the rest double; then boxes alone fit more closely."""

    def aps(ap, ap50):
        return {
            "metrics": {"AP": ap, "AP50": ap50},
            "bootstrap": {"AP": [ap, ap + 1], "AP50": [ap50, ap50 + 1]},
        }

    one, other = runs(lambda c: 30.0, ("1a",), 1, replicates=2)[:2]
    e = Evidence(study([one, other]))
    few, many = changed(one, **aps(10.0, 20.0)), changed(other, **aps(20.0, 40.0))
    assert e.difference([many], [few], MEASURES["fit"]).effect == pytest.approx(0.0)
    closer = changed(other, **aps(12.0, 20.0))
    assert e.difference([closer], [few], MEASURES["fit"]).effect == pytest.approx(100 * 20 / 9 / 20)

"""Verdicts on calibration, and its table, on made-up scores whose truth is known."""

import numpy as np
import pytest
from made_up import runs, study

from focalrepro.evaluation.measures import LOGITS
from focalrepro.evidence.claims import judge_all
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.statistics import score_below
from focalrepro.show.tables import calibration

pytestmark = pytest.mark.usefixtures("nothing_committed")


def judged(records, claim):
    return next(v for c, v in judge_all(Evidence(study(records))) if c.id == claim)


def scores(c, rng, offset=0.0):
    """Detections whose logit lies `offset` above that of the share that is right."""
    centres = (LOGITS[:-1] + LOGITS[1:]) / 2
    count = np.full(len(centres), 100)
    share = 1 / (1 + np.exp(-(centres - offset)))
    right = np.round(count * share + rng.uniform(-0.2, 0.2)).astype(int).clip(0, 100)
    part = {"right": right.tolist(), "wrong": (count - right).tolist()}
    return {"tune": part, "test": part}


def test_calibration_is_judged_before_and_after_what_maps_scores():
    of = runs(lambda c: 30, seed_sd=0.05, scores=lambda c, rng: scores(c, rng, 2.0 * (c.gamma > 0)))
    raw, mended = judged(of, "calibration-raw"), judged(of, "calibration-isotonic")
    assert raw.word == "measured" and raw.high < 0 and raw.value < 5 * mended.value, "both can be mended"
    found = judged(of, "calibration-closed-form")
    # Scores 2 too low in logits are mapped farther down: the closed form thinks that γ drew them up.
    assert found.word == "measured" and found.seeds == 3 and found.high < 0


def test_the_closed_form_undoes_a_class_weight():
    """At α = .75 the odds of an honest score are three times those of the truth."""
    honest = {0.5: 0.0, 0.75: np.log(3)}
    of = runs(lambda c: 30, ("1a",), scores=lambda c, rng: scores(c, rng, honest.get(c.alpha, 0.0)))
    shown = calibration({f"α = {a:g}": [r for r in of if r.config.alpha == a] for a in honest})
    assert shown.loc["α = 0.5", "error, closed form"] == "–"
    raw, mended = (float(shown.loc["α = 0.75", f"error, {way}"]) for way in ("raw", "closed form"))
    assert mended < raw / 10
    for score in ("NLL", "Brier"):
        honest, bent = (float(shown.loc[f"α = {a}", f"{score}, raw"]) for a in (0.5, 0.75))
        assert 0 < honest < bent, "both are least at the true probabilities"


def test_calibration_is_compared_at_matched_ap_only():
    of = runs(lambda c: 30 + 2 * (c.gamma > 0), seed_sd=0.05, scores=scores)
    found = judged(of, "calibration-raw")
    assert found.word == "not comparable" and "their AP differs" in found.how


def test_a_score_that_a_share_does_not_exceed():
    """As many detections in each tenth of logit from -12 to 12: the median is that of a logit of 0."""
    record = runs(lambda c: 30, ("1a",), scores=lambda c, rng: scores(c, rng))[0]
    low, middle, high = (score_below(record, share) for share in (0.05, 0.5, 0.95))
    assert middle == pytest.approx(0.5, abs=0.02)
    logits = [np.log(p / (1 - p)) for p in (low, high)]
    assert logits == pytest.approx([-10.8, 10.8], abs=0.11)

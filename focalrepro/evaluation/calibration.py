"""How far scores are probabilities, before and after what maps them to some: read off histograms of scores.

A histogram counts, in narrow bins of the logit, the detections that are right (matched at IoU .5) and wrong
(`measures.score_histogram`), always over the same number of detections an image and without a threshold:
detectors compare only so. What maps scores to probabilities is fitted on tune images and judged on test
images.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression

from focalrepro.evaluation.measures import LOGITS

CENTRES = (LOGITS[:-1] + LOGITS[1:]) / 2
BINS = 10  # equal widths of score, for the expected calibration error
Histogram = dict[str, list[int]]


@dataclass(frozen=True)
class Calibration:
    """Of probabilities: expected calibration error, Brier score, negative log likelihood, per detection."""

    error: float
    brier: float
    nll: float


def raw(histogram: Histogram, log_temperature: float = 0.0) -> np.ndarray:
    """The scores as they are: the probability at each bin's centre, [240]; or after a temperature."""
    return 1 / (1 + np.exp(-CENTRES / np.exp(log_temperature)))


def tempered(tune: Histogram) -> np.ndarray:
    """Probabilities [240] after the temperature that has the least negative log likelihood on tune."""
    best = minimize_scalar(lambda t: calibration_of(tune, raw(tune, t)).nll, bounds=(-3, 3), method="bounded")
    return raw(tune, best.x)


def isotonic(tune: Histogram) -> np.ndarray:
    """Probabilities [240] after isotonic regression on tune: the best of all maps that keep the order."""
    right, wrong = (np.array(tune[k], float) for k in ("right", "wrong"))
    count = right + wrong
    seen = count > 0
    fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    fit.fit(CENTRES[seen], right[seen] / count[seen], sample_weight=count[seen])
    return fit.predict(CENTRES)


def closed_form(alpha: float, gamma: float) -> np.ndarray:
    """Probabilities [240] by the inverse of the focal loss's own minimiser; needs no data.

    A true probability η is trained to the score p at which η b = (1 - η) a, where b is how fast the object's
    term falls with p and a how fast the background's rises; solved for η.
    Charoenphakdee et al. 2021 (arXiv 2011.09172), theorem 11, with α.
    """
    p = raw({})
    a = (1 - alpha) * (p**gamma / (1 - p) - gamma * p ** (gamma - 1) * np.log1p(-p))
    b = alpha * ((1 - p) ** gamma / p - gamma * (1 - p) ** (gamma - 1) * np.log(p))
    return a / (a + b)


def calibration_of(histogram: Histogram, probability: np.ndarray) -> Calibration:
    """How well probabilities [240], one a bin of the histogram, fit what was right; NaN without any."""
    right, wrong = (np.array(histogram[k], float) for k in ("right", "wrong"))
    total = (right + wrong).sum()
    if not total:
        return Calibration(float("nan"), float("nan"), float("nan"))
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    error = sum(abs(part["count"] * (part["score"] - part["right"])) for part in reliability(histogram, p))
    brier = (right * (1 - p) ** 2 + wrong * p**2).sum()
    nll = -(right * np.log(p) + wrong * np.log1p(-p)).sum()
    return Calibration(float(error / total), float(brier / total), float(nll / total))


def best_scored(histogram: Histogram) -> Histogram:
    """The part of a histogram with the highest scores, about as many detections as are right in all of it.

    A hundred detections an image are nearly all near a score of 0, where every detector is calibrated: their
    mean error says little of the few detections that somebody would look at.
    """
    right, wrong = (np.array(histogram[k]) for k in ("right", "wrong"))
    kept = np.cumsum((right + wrong)[::-1])[::-1] - (right + wrong) < right.sum()
    return {"right": (right * kept).tolist(), "wrong": (wrong * kept).tolist()}


def reliability(histogram: Histogram, probability: np.ndarray) -> list[dict[str, Any]]:
    """Count, mean score and share that is right of each of ten equal bins of probability, but empty ones."""
    right, wrong = (np.array(histogram[k], float) for k in ("right", "wrong"))
    count, rows = right + wrong, []
    at = np.minimum((probability * BINS).astype(int), BINS - 1)
    for i in range(BINS):
        if n := count[at == i].sum():
            score = (count * probability)[at == i].sum() / n
            rows.append({"bin": i, "count": n, "score": score, "right": right[at == i].sum() / n})
    return rows

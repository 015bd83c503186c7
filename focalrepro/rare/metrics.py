"""Metrics of rare events, all of them weighted: a weight stands for that many equal rows."""

import numpy as np
from sklearn.metrics import average_precision_score, log_loss, precision_recall_fscore_support, roc_curve


def recall_at_fpr(y: np.ndarray, score: np.ndarray, weight: np.ndarray, fpr: float = 0.01) -> float:
    """The greatest recall at a threshold that flags at most the share `fpr` of the negatives."""
    false, true, _ = roc_curve(y, score, sample_weight=weight, drop_intermediate=False)
    return float(true[false <= fpr + 1e-12].max())


def calibration_error(y: np.ndarray, score: np.ndarray, weight: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: |mean score - share of positives| over equally wide bins, by weight."""
    index = np.minimum((score * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(index, weight * (score - y))).sum() / weight.sum())


def decisions(y: np.ndarray, flagged: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Precision (NaN where nothing is flagged), recall and F1 of boolean decisions [n]."""
    found = precision_recall_fscore_support(
        y, flagged, sample_weight=weight, average="binary", zero_division=np.nan
    )
    return dict(zip(("precision", "recall", "f1"), map(float, found[:3]), strict=True))


def best_threshold(y: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """The threshold with the greatest F1, halfway to the next lower score so that it holds on other rows."""
    false, true, cuts = roc_curve(y, score, sample_weight=weight, drop_intermediate=False)
    positives, negatives = weight[y == 1].sum(), weight[y == 0].sum()
    at = int(np.argmax(2 * true * positives / ((1 + true) * positives + false * negatives)))
    return float(cuts[at : at + 2].mean())


def average_precision(y: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """The area under precision against recall, as a sum over the thresholds."""
    return float(average_precision_score(y, score, sample_weight=weight))


def metrics(y: np.ndarray, score: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """All metrics of probabilities [n] for 0/1 labels [n] with weights [n]."""
    return {
        "ap": average_precision(y, score, weight),
        "recall_at_1fpr": recall_at_fpr(y, score, weight),
        "ece": calibration_error(y, score, weight),
        "log_loss": float(log_loss(y, np.clip(score, 1e-12, 1 - 1e-12), sample_weight=weight)),
        "threshold": threshold,
        **decisions(y, score >= threshold, weight),
    }

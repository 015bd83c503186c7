"""Metrics of rare events, all of them weighted: a weight stands for that many equal rows."""

import numpy as np


def recall_at_fpr(y: np.ndarray, score: np.ndarray, weight: np.ndarray, fpr: float = 0.01) -> float:
    """The greatest recall at a threshold that flags at most the share `fpr` of the negatives."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(y, score, sample_weight=weight, drop_intermediate=False)
    return float(true[false <= fpr + 1e-12].max())


def calibration_error(y: np.ndarray, score: np.ndarray, weight: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: |mean score - share of positives| over bins of equal width, by their weight."""
    index = np.minimum((score * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weight * (score - y), minlength=bins)
    return float(np.abs(gaps).sum() / weight.sum())


def decisions(y: np.ndarray, flagged: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Precision (NaN where nothing is flagged), recall and F1 of boolean decisions [n]."""
    true = float(weight[flagged & (y == 1)].sum())
    all_flagged, positives = float(weight[flagged].sum()), float(weight[y == 1].sum())
    precision = true / all_flagged if all_flagged else float("nan")
    return {"precision": precision, "recall": true / positives, "f1": 2 * true / (all_flagged + positives)}


def best_threshold(y: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """The threshold with the greatest F1, halfway to the next lower score so that it holds on other rows."""
    order = np.argsort(-score, kind="stable")
    s, w, hit = score[order], weight[order], y[order] == 1
    f1 = 2 * np.cumsum(w * hit) / (np.cumsum(w) + w[hit].sum())
    last = np.append(s[:-1] != s[1:], True)  # equal scores are flagged together
    at = int(np.flatnonzero(last)[np.argmax(f1[last])])
    return float((s[at] + s[at + 1]) / 2) if at + 1 < len(s) else float(s[at])


def metrics(y: np.ndarray, score: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """All metrics of probabilities [n] for 0/1 labels [n] with weights [n]."""
    from sklearn.metrics import average_precision_score

    p = np.clip(score, 1e-12, 1 - 1e-12)
    log_loss = -np.average(np.where(y == 1, np.log(p), np.log1p(-p)), weights=weight)
    return {
        "ap": float(average_precision_score(y, score, sample_weight=weight)),
        "recall_at_1fpr": recall_at_fpr(y, score, weight),
        "ece": calibration_error(y, score, weight),
        "log_loss": float(log_loss),
        "threshold": threshold,
        **decisions(y, score >= threshold, weight),
    }

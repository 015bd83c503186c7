"""Gradient-boosted trees under focal loss: LightGBM, given the loss's exact gradient and Hessian.

LightGBM is optional; `HINT` says how to get it. Everything but the loss is LightGBM's default, on one thread.
"""

import importlib.util

import numpy as np
from scipy.special import expit, log_expit

from focalrepro.rare.data import Part

INSTALLED = importlib.util.find_spec("lightgbm") is not None
HINT = "trees are left out, since LightGBM is not installed: pip install 'lightgbm>=4.3'"


def focal_derivatives(
    x: np.ndarray, y: np.ndarray, alpha: float, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative of the focal loss (equation 5) by its logit.

    x: logits, any shape; y: 0/1 in that shape; alpha: as in `sigmoid_focal_loss`, negative for no weighting.
    With p = p_t, q = 1 - p, w = α_t and u = γ p log p - q, by the logit x_t (whose sign is y's):
    FL' = w q^γ u,  FL'' = w q^γ p (q - γ (u - q log p - q)). Both are finite at every finite logit.
    """
    sign = np.where(y == 1, 1.0, -1.0)
    log_p, log_q = log_expit(sign * x), log_expit(-sign * x)
    p, q = np.exp(log_p), np.exp(log_q)
    scale = np.exp(gamma * log_q) * (np.where(y == 1, alpha, 1 - alpha) if alpha >= 0 else 1.0)
    u = gamma * p * log_p - q
    return sign * scale * u, scale * p * (q - gamma * (u - q * log_p - q))


def tree_scores(train: Part, parts: tuple[np.ndarray, ...], alpha: float, gamma: float, rounds: int) -> list:
    """Probabilities of `rounds` trees, float64 [n] for each of parts [n, d]; γ = 0 is LightGBM's log loss.

    Boosting starts at the log-odds of the training part's positives. Focal loss is not convex: where a row is
    missed by far (at γ = 2 a score below .06), its Hessian is negative, and at the start of rates beyond 1:16
    so is the positives'. A Newton step would climb there, so it is given the Hessian's magnitude
    (Dauphin et al. 2014, "Identifying and attacking the saddle point problem").
    """
    import lightgbm

    def objective(logits: np.ndarray, _: lightgbm.Dataset) -> tuple[np.ndarray, np.ndarray]:
        gradient, hessian = focal_derivatives(logits, train.y, alpha, gamma)
        return gradient, np.abs(hessian)

    start = np.log((train.y == 1).sum() / (train.y == 0).sum())
    fixed = {"verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}
    fixed |= {"feature_pre_filter": False}
    first = np.full(len(train.y), start)
    table = lightgbm.Dataset(train.x, train.y, init_score=first, params=fixed).construct()
    if not any(table.feature_num_bin(i) for i in range(table.num_feature())):  # LightGBM would stop here
        return [np.full(len(x), expit(start)) for x in parts]
    fixed |= {"objective": objective if gamma else "binary", "boost_from_average": False}
    model = lightgbm.train(fixed, table, rounds)
    return [expit(start + model.predict(x, raw_score=True)) for x in parts]

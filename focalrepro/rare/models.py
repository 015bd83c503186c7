"""The comparison: one small network, one budget, one initialisation; only the loss differs, and its rate.

All seeds and losses of a data set and a rate are trained together, as one network with a leading dimension
for each: [seeds, losses, …]. Gradient-boosted trees stand beside them: LightGBM, where it is installed, with
its defaults on one thread, given the loss's exact gradient and Hessian.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
import pydantic.dataclasses
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.special import expit, log_expit
from torch import Tensor

from focalrepro.losses import sigmoid_focal_loss
from focalrepro.progress import bar
from focalrepro.rare.data import Part, RareData, Split, built_in, count_of, rate_name, split
from focalrepro.rare.metrics import average_precision, best_threshold, metrics

RATES = (10, 30, 100, 1000)  # negatives to one positive
SEEDS = 5
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
INSTALLED = importlib.util.find_spec("lightgbm") is not None
HINT = "trees are left out, since LightGBM is not installed: pip install 'lightgbm>=4.3'"


@pydantic.dataclasses.dataclass(frozen=True)
class RareSettings:
    """What is the same for all losses. The rates are tried for each of them, split by split; of equally good
    ones the first is taken. Nothing else is searched."""

    hidden: PositiveInt = 32  # two hidden layers of this width
    steps: PositiveInt = 300
    batch: PositiveInt = 256  # rows; fewer rows are taken whole
    learning_rates: Rates = (5e-3, 1.25e-3, 2e-2, 8e-2)  # falls to 0 linearly
    tree_rates: Rates = (0.1, 0.03, 0.3)  # the first is LightGBM's default
    weight_decay: float = 1e-2
    least_positives: PositiveInt = 5  # a rate that leaves fewer for training is not run
    rounds: PositiveInt = 100  # trees


@dataclass(frozen=True)
class Method:
    """A loss, and where the output starts; of a network, or of trees.

    gamma 0 is cross entropy; a negative alpha is no class weighting. weighted: positives count as often as
    the negatives outnumber them. The bias starts at -log((1 - π)/π), with π the share of positives as the
    loss sees them: the training part's, or a half where `even`, as it is for a weighted loss.
    """

    name: str
    gamma: float = 0.0
    alpha: float = -1.0
    weighted: bool = False
    even: bool = False
    trees: bool = False

    def loss(self, logits: Tensor, y: Tensor, ratio: Tensor) -> Tensor:
        """Mean loss of each seed, [S]; logits and 0/1 labels are [S, B], negatives per positive [S, 1]."""
        if self.weighted:
            return F.binary_cross_entropy_with_logits(logits, y, pos_weight=ratio, reduction="none").mean(1)
        return sigmoid_focal_loss(logits, y, self.alpha, self.gamma).mean(1)


CE = Method("cross entropy")
MOVED = "cross entropy, moved threshold"
METHODS = (
    CE,
    Method("weighted cross entropy", weighted=True, even=True),
    Method("focal loss γ = 2, α = .25", gamma=2.0, alpha=0.25),
    Method("focal loss γ = 2", gamma=2.0),
)
BIAS_METHODS = (METHODS[2], Method("focal loss γ = 2, α = .25, bias 0", gamma=2.0, alpha=0.25, even=True))
TREES = (
    Method("trees, log loss", trees=True),
    Method("trees, focal loss γ = 2, α = .25", gamma=2.0, alpha=0.25, trees=True),
    Method("trees, focal loss γ = 2", gamma=2.0, trees=True),
)


def forward(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """Logits [S, M, B] of the networks of S seeds and M losses on each seed's rows, x [S, B, D]."""
    w1, b1, w2, b2, w3, b3 = weights
    h = F.relu(x.unsqueeze(1) @ w1 + b1)
    return (F.relu(h @ w2 + b2) @ w3 + b3).squeeze(-1)


def first_weights(
    inputs: int, ratio: Tensor, seeds: Sequence[int], methods: Sequence[Method], hidden: int
) -> list[Tensor]:
    """Weights [S, M, in, out] and biases [S, M, 1, out]; of one seed, all losses start from the same ones."""
    generators, weights = [torch.Generator().manual_seed(seed) for seed in seeds], []
    for fan_in, fan_out in ((inputs, hidden), (hidden, hidden), (hidden, 1)):
        bound = (3 / fan_in) ** 0.5 * (2**0.5 if fan_out > 1 else 1)  # He et al.: keeps a ReLU's variance
        drawn = torch.stack([torch.rand(1, fan_in, fan_out, generator=g) for g in generators])
        weights.append(((drawn * 2 - 1) * bound).repeat(1, len(methods), 1, 1))
        weights.append(torch.zeros(len(seeds), len(methods), 1, fan_out))
    for i, method in enumerate(methods):
        weights[-1][:, i, 0, 0] = 0.0 if method.even else -ratio.log()
    return [w.requires_grad_() for w in weights]


def train(
    splits: Sequence[Split],
    seeds: Sequence[int],
    methods: Sequence[Method],
    settings: RareSettings,
    rate: float,
) -> list[Tensor]:
    """Trains every loss on every seed's split with the same batches at one learning rate; the weights as in
    `first_weights`."""
    x, y = (torch.from_numpy(np.stack([getattr(s.train, field) for s in splits])) for field in "xy")
    y, each = y.float(), torch.arange(len(seeds)).unsqueeze(1)
    ratio = (1 - y).sum(1) / y.sum(1)
    weights, decay = first_weights(x.shape[-1], ratio, seeds, methods, settings.hidden), settings.weight_decay
    optimizer = torch.optim.AdamW(weights, rate, weight_decay=decay, foreach=True)
    fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / settings.steps)
    for rows in torch.from_numpy(np.stack([_batches(x.shape[1], s, settings) for s in seeds], axis=1)):
        logits, labels = forward(weights, x[each, rows]), y[each, rows]
        # Each network sees only its own term of the sum, so they train as if alone.
        loss = sum(m.loss(logits[:, i], labels, ratio.unsqueeze(1)).sum() for i, m in enumerate(methods))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fall.step()
    return [w.detach() for w in weights]


def _batches(rows: int, seed: int, settings: RareSettings) -> np.ndarray:
    """Row numbers [steps, batch] of shuffled epochs; all rows in each batch that can hold them."""
    if rows <= settings.batch:
        return np.tile(np.arange(rows), (settings.steps, 1))
    rng, needed = np.random.default_rng(seed), settings.steps * settings.batch
    order = np.concatenate([rng.permutation(rows) for _ in range(-(-needed // rows))])[:needed]
    return order.reshape(settings.steps, settings.batch)


@torch.no_grad()
def scores(weights: Sequence[Tensor], x: np.ndarray) -> np.ndarray:
    """Probabilities of being positive, float64 [S, M, n], of each seed's rows x [S, n, D]."""
    pieces = [forward(weights, piece) for piece in torch.from_numpy(x).split(4096, dim=1)]
    return torch.cat(pieces, dim=-1).double().sigmoid().numpy()


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


def tree_scores(
    train: Part, parts: tuple[np.ndarray, ...], alpha: float, gamma: float, rounds: int, rate: float = 0.1
) -> list[np.ndarray]:
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
    fixed |= {"feature_pre_filter": False, "learning_rate": rate}
    first = np.full(len(train.y), start)
    table = lightgbm.Dataset(train.x, train.y, init_score=first, params=fixed).construct()
    if not any(table.feature_num_bin(i) for i in range(table.num_feature())):  # LightGBM would stop here
        return [np.full(len(x), expit(start)) for x in parts]
    fixed |= {"objective": objective if gamma else "binary", "boost_from_average": False}
    model = lightgbm.train(fixed, table, rounds)
    return [expit(start + model.predict(x, raw_score=True)) for x in parts]


def plan(profile: str, seeds: int = SEEDS) -> tuple[tuple[int, ...], int, RareSettings]:
    """Rates, seeds and settings of a profile: at "smoke" two rates, two seeds and few steps and trees."""
    if profile == "smoke":
        few = {"steps": 60, "rounds": 10, "learning_rates": (5e-3, 2e-2), "tree_rates": (0.1,)}
        return (10, 100), min(seeds, 2), RareSettings(**few)
    return RATES, seeds, RareSettings()


Scores = list[np.ndarray]  # probabilities [S, n] on the validation parts of S seeds, and on their test parts


def fitted_scores(
    data: RareData, rate: float, seeds: int, settings: RareSettings, methods: Sequence[Method] = METHODS
) -> tuple[list[Split], np.ndarray, np.ndarray, np.ndarray]:
    """Splits [S]; probabilities [S, M, n] on their validation and test parts, freshly trained; the learning
    rates [S, M] that the validation parts chose.

    One torch thread: networks this small gain nothing from more, and sums keep their order.
    """
    splits = [split(data, rate, seed) for seed in range(seeds)]
    held = [np.stack([getattr(s, part).x for s in splits]) for part in ("validation", "test")]
    tried: dict[Method, dict[float, Scores]] = {m: {} for m in methods}
    networks, threads = [m for m in methods if not m.trees], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for step in settings.learning_rates if networks else ():
            weights = train(splits, range(seeds), networks, settings, step)
            each = [scores(weights, x) for x in held]
            for i, m in enumerate(networks):
                tried[m][step] = [part[:, i] for part in each]
    finally:
        torch.set_num_threads(threads)
    for m in (m for m in methods if m.trees):
        for step in settings.tree_rates:
            how = m.alpha, m.gamma, settings.rounds, step
            fits = [tree_scores(s.train, (s.validation.x, s.test.x), *how) for s in splits]
            tried[m][step] = [np.stack(part) for part in zip(*fits, strict=True)]
    best = [_best(tried[m], splits) for m in methods]
    validation, test, chosen = (np.stack(part, axis=1) for part in zip(*best, strict=True))
    return splits, validation, test, chosen


def _best(by_rate: dict[float, Scores], splits: Sequence[Split]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each seed the scores [S, n] on both parts at the rate with the highest average precision on its own
    validation part, and that rate [S]. A training that diverged has none."""

    def precision(rate: float, seed: int) -> float:
        part, found = splits[seed].validation, by_rate[rate][0][seed]
        return average_precision(part.y, found, part.weight) if np.isfinite(found).all() else -1.0

    chosen = [max(by_rate, key=partial(precision, seed=seed)) for seed in range(len(splits))]
    validation, test = (np.stack([by_rate[r][i][seed] for seed, r in enumerate(chosen)]) for i in range(2))
    return validation, test, np.array(chosen)


def run_rare(
    datasets: Sequence[RareData] | None = None,
    rates: Sequence[float] = RATES,
    seeds: int = SEEDS,
    settings: RareSettings | None = None,
    methods: Sequence[Method] = METHODS,
    progress: bool = True,
    notice: Callable[[str], None] = lambda sentence: None,
) -> pd.DataFrame:
    """One row per data set, rate, method and seed, with the counts of the split and all metrics.

    Cross entropy appears twice: decided at .5, and at the threshold with the best F1 on the validation part.
    Trees are grown on tables, not on images. notice: is told what is left out: pairs of data set and rate
    with too few positives, and trees where LightGBM is missing. Errors: ValueError for wrong rates or seeds.
    """
    if seeds < 1:
        raise ValueError(f"--seeds is {seeds}; it must be 1 or more (2 for intervals)")
    if any(not 1 <= rate < float("inf") for rate in rates):
        raise ValueError("--rates are the negatives to one positive: 1 or more, such as 10 100 1000")
    settings, pairs, rows = settings or RareSettings(), [], []
    if any(m.trees for m in methods) and not INSTALLED:
        methods = [m for m in methods if not m.trees]
        notice(HINT)
    rates = dict.fromkeys(rates)  # each once: a rate given twice would count its seeds twice
    for data in built_in() if datasets is None else datasets:
        tried = [m for m in methods if data.table or not m.trees]
        for rate in map(float, (data.rate,) if data.own_rate else rates):
            if (count := int(split(data, rate, 0).train.y.sum())) < settings.least_positives:
                few = count_of(count, "positive")
                notice(f"{data.name} at {rate_name(rate)} is not run: {few} to train on")
            elif tried:
                pairs.append((data, rate, tried))
    steps = bar(pairs, desc="rare events", unit="rate", disable=not progress)
    for data, rate, tried in steps:
        steps.set_postfix_str(f"{data.name} {rate_name(rate)}", refresh=False)
        splits, validation, test, chosen = fitted_scores(data, rate, seeds, settings, tried)
        for seed, (s, held, scored) in enumerate(zip(splits, validation, test, strict=True)):
            facts = {"dataset": data.name, "rate": rate, "method": "", "seed": seed}
            for name, part in (("train", s.train), ("test", s.test)):
                positives = int(part.y.sum())
                facts |= {f"{name}_positives": positives, f"{name}_negatives": len(part.y) - positives}
            for i, method in enumerate(tried):
                facts["learning_rate"], cuts = chosen[seed, i], {method.name: 0.5}
                if method == CE:
                    cuts[MOVED] = best_threshold(s.validation.y, held[i], s.validation.weight)
                for name, cut in cuts.items():
                    rows.append(facts | {"method": name} | metrics(s.test.y, scored[i], s.test.weight, cut))
    return pd.DataFrame(rows)

"""How much of a picked row's AP is the luck of the trainings that picked it."""

import numpy as np

from focalrepro.evidence.claims import Side
from focalrepro.evidence.difference import Evidence


def luck_of_the_pick(e: Evidence, side: Side) -> float | None:
    """AP of the row that a side picks, less what each seed has where the other seeds pick its row.

    Both on images that judge, picked on tune images (leave-one-out cross-fitting). Above 0 where the
    trainings that choose are favoured by choosing; the other seeds are one fewer, so it is no less than that.
    Seeds of the picked row beside those that all rows have took no part in the pick, and dilute its luck.
    None for a side that no counted training picks, with fewer than two seeds, and without tune images.
    """
    if side.pick not in ("best", "best at .05"):
        return None
    at = "AP_at_05" if side.pick == "best at .05" else "AP"
    rows = [e.rows(side.ablation)[label] for label in side.labels(e.study.base)]
    pairs = sorted({r.pair for records in rows for r in records})
    by_pair = [{r.pair: r for r in records} for records in rows]
    if len(pairs) < 2 or any(len(of) < len(pairs) or None in {r.tune for r in of.values()} for of in by_pair):
        return None
    tune = np.array([[getattr(of[pair].tune, at) for pair in pairs] for of in by_pair])
    judged = np.array([[getattr(of[pair], at) for pair in pairs] for of in by_pair])
    others = tune.sum(axis=1, keepdims=True) - tune  # [rows, seeds]: over all seeds but one
    fitted = judged[others.argmax(axis=0), np.arange(len(pairs))]
    picked = int(tune.mean(axis=1).argmax())
    judges = e.study.rows(side.ablation)[side.labels(e.study.base)[picked]]
    return float(judged[picked].mean() - fitted.mean()) * len(pairs) / len(judges)

"""Tables with rare positives: two real data sets, a generated one, your own CSV, and bringing them to a rate.

A rate of r means one positive to r negatives. For training, positives are left out until the rate is reached.
For testing none is: every real positive of the test part is used, and the positives share a weight that makes
the *weighted* prevalence the nominal one. Metrics that depend on the prevalence are then those of that rate,
with the noise of all positives at hand instead of a few.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

MOST_CATEGORIES = 50  # a text column with more different values is a name or a number, not a category
LEAST_POSITIVES = 10  # of a CSV: 5 to train on, 2 to choose a threshold with, 3 to test on


@dataclass(frozen=True)
class RareData:
    """A binary task.

    x: float32 [n, d], NaN where a value is missing. y: int64 [n], 1 for the positives.
    own_rate: the data is rare by itself and is not resampled.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    about: str = ""
    own_rate: bool = False

    @property
    def rate(self) -> float:
        """Negatives to one positive, before any resampling."""
        return float((self.y == 0).sum() / (self.y == 1).sum())


@dataclass(frozen=True)
class Part:
    """Standardised inputs float32 [n, d], labels int64 [n] and weights float64 [n] of one part of a split."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Split:
    """Training part at the rate; validation and test part whole, weighted to the rate. Row numbers in `rows`."""

    train: Part
    validation: Part
    test: Part
    rows: tuple[np.ndarray, np.ndarray, np.ndarray]


def digits(positive: int = 8) -> RareData:
    """scikit-learn's handwritten digits, 8×8 pixels: one digit against the nine others."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    about = f"handwritten digits of 8×8 pixels, {positive} against the rest"
    return RareData("digits", x.astype(np.float32), (y == positive).astype(np.int64), about)


def breast_cancer() -> RareData:
    """scikit-learn's Wisconsin breast cancer data: malignant tumours are the positives."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return RareData(
        "breast cancer",
        x.astype(np.float32),
        (y == 0).astype(np.int64),
        "30 measures of cell nuclei, malignant",
    )


def overlapping(
    negatives: int = 32_000, positives: int = 3_600, dimensions: int = 12, seed: int = 0
) -> RareData:
    """Generated: each class a mixture of Gaussians, the positives' beside the negatives', so that they overlap.

    There are enough negatives for 1:1000, and no classifier can be perfect.
    """
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1.5, (4, dimensions))
    step = rng.normal(size=(2, dimensions))
    rare = common[:2] + 3.0 * step / np.linalg.norm(step, axis=1, keepdims=True)
    x = np.concatenate(
        [
            centres[rng.integers(len(centres), size=n)] + rng.normal(size=(n, dimensions))
            for centres, n in ((common, negatives), (rare, positives))
        ]
    )
    y = np.repeat([0, 1], [negatives, positives])
    return RareData("generated", x.astype(np.float32), y, f"overlapping Gaussians in {dimensions} dimensions")


def built_in() -> list[RareData]:
    """The three data sets that come along."""
    return [digits(), breast_cancer(), overlapping()]


# ---------------------------------------------------------------------------------------------------------------
# Rates and splits.


def training_counts(y: np.ndarray, rate: float) -> tuple[int, int]:
    """Positives and negatives to keep of the labels so that there are `rate` negatives to one positive.

    All negatives where the positives suffice for them, otherwise all positives and fewer negatives.
    """
    positives, negatives = int((y == 1).sum()), int((y == 0).sum())
    wanted = round(negatives / rate)
    return (wanted, negatives) if wanted <= positives else (positives, round(positives * rate))


def training_positives(data: RareData, rate: float, share: float) -> int:
    """How many positives a training part of `share` of the data has at the rate."""
    y = np.repeat([0, 1], [round(share * int((data.y == label).sum())) for label in (0, 1)])
    return int(y.sum()) if data.own_rate else training_counts(y, rate)[0]


def rate_name(rate: float) -> str:
    """A rate as it is spoken of: 1:100."""
    return f"1:{rate:.0f}" if rate >= 10 else f"1:{rate:.2g}"


def count_of(number: int, noun: str) -> str:
    """A number and its noun, which has an s unless it is one: 1 positive, 16 positives."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def rate_weights(y: np.ndarray, rate: float) -> np.ndarray:
    """Weights, float64 [n]: 1 for a negative, and for a positive what makes the weighted rate `rate`."""
    positives, negatives = (y == 1).sum(), (y == 0).sum()
    return np.where(y == 1, negatives / (rate * max(positives, 1)), 1.0)


def parts_of(y: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Row numbers of len(shares) + 1 disjoint parts that hold both classes alike; the last one is the rest."""
    parts: list[list[np.ndarray]] = [[] for _ in range(len(shares) + 1)]
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(y == label))
        ends = np.round(np.cumsum(shares) * len(rows)).astype(int)
        for part, piece in zip(parts, np.split(rows, ends), strict=True):
            part.append(piece)
    return tuple(np.sort(np.concatenate(part)) for part in parts)


def split(data: RareData, rate: float, seed: int, shares: tuple[float, float] = (0.5, 0.2)) -> Split:
    """Splits by the seed, thins out the training part to the rate, weights the two others to it.

    shares: of training and validation. Missing values become the training part's median, and its mean and
    standard deviation standardise all parts. Data with `own_rate` is neither thinned out nor weighted.
    """
    rng = np.random.default_rng(seed)
    train, validation, test = parts_of(data.y, shares, rng)
    if not data.own_rate:
        kept = [
            rng.choice(train[data.y[train] == label], count, replace=False)
            for label, count in zip((1, 0), training_counts(data.y[train], rate), strict=True)
        ]
        train = np.sort(np.concatenate(kept))
    scale = _Scale(data.x[train])
    parts = []
    for rows in (train, validation, test):
        y = data.y[rows]
        as_is = data.own_rate or rows is train
        parts.append(Part(scale(data.x[rows]), y, np.ones(len(y)) if as_is else rate_weights(y, rate)))
    return Split(*parts, rows=(train, validation, test))


class _Scale:
    """Median, mean and standard deviation of the training part, float [n, d], applied to any part."""

    def __init__(self, x: np.ndarray) -> None:
        empty = np.isnan(x).all(axis=0)
        self.median = np.where(empty, 0, np.nanmedian(np.where(empty, 0, x), axis=0))
        filled = np.where(np.isnan(x), self.median, x).astype(np.float64)
        self.mean, spread = filled.mean(axis=0), filled.std(axis=0)
        self.spread = np.where(spread > 1e-9, spread, 1)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return ((np.where(np.isnan(x), self.median, x) - self.mean) / self.spread).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------
# Your own table.


def read_csv(path: Path, target: str) -> RareData:
    """A CSV with a header and a binary target column, at its own rate; the rarer value is the positive one.

    Text columns become one column per category (those with more than 50 values are left out), missing values
    the median with a column beside it that says so. Errors: FileNotFoundError or ValueError that name the file,
    the column and what to do.
    """
    frame = _table(path)
    if target not in frame.columns:
        near = difflib.get_close_matches(target, map(str, frame.columns), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if frame.shape[1] == 1 and ";" in str(frame.columns[0]):
            raise ValueError(
                f"{path}: no column {target!r}: its columns are parted by semicolons; save it with commas"
            )
        names = ", ".join(map(str, frame.columns[:12])) + (", …" if frame.shape[1] > 12 else "")
        raise ValueError(f"{path}: no column {target!r}{hint} Give --target one of: {names}")
    y, positive = _labels(path, frame[target])
    inputs, left_out = _inputs(frame.drop(columns=target))
    if inputs.shape[1] == 0:
        raise ValueError(
            f"{path}: no usable column beside {target!r}: columns must be numbers, or text with at most "
            f"{MOST_CATEGORIES} different values, and vary. Add such a column"
        )
    about = f"positive is {target} = {positive}, {inputs.shape[1]} inputs"
    if left_out:
        about += f"; left out (constant, or text with many values): {', '.join(left_out)}"
    return RareData(path.name, inputs.to_numpy(np.float32), y, about, own_rate=True)


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give --csv the path of a CSV file with a header line")
    try:
        frame = pd.read_csv(path, low_memory=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{path}: not a readable CSV ({reason}); save it as UTF-8 with commas and a header line"
        ) from error
    return frame


def _labels(path: Path, column: pd.Series) -> tuple[np.ndarray, object]:
    """0/1 labels, int64 [n], and the value that is 1."""
    missing = int(column.isna().sum())
    if missing:
        raise ValueError(
            f"{path}: column {column.name!r} is empty in {missing} rows; fill or remove these rows"
        )
    counts = column.value_counts()
    if len(counts) != 2:
        found = ", ".join(map(str, counts.index[:5])) + (", …" if len(counts) > 5 else "")
        raise ValueError(
            f"{path}: column {column.name!r} has {len(counts)} different value{'s'[: len(counts) != 1]} ({found}); "
            "a target has two, such as 0 and 1: choose another column, or write one that has"
        )
    # Equally many of both: the greater value, so that 1 is positive and not 0.
    positive = counts.index[1] if counts.iloc[0] != counts.iloc[1] else max(counts.index)
    if counts.iloc[1] < LEAST_POSITIVES:
        raise ValueError(
            f"{path}: column {column.name!r} is {positive!s} in only {counts.iloc[1]} rows; at least "
            f"{LEAST_POSITIVES} are needed to train, choose a threshold and test: collect more of them"
        )
    return (column == positive).to_numpy(np.int64), positive


def _inputs(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Numeric columns, with indicators of missing values, and the names of those left out."""
    columns, left_out = {}, []
    for name, column in frame.items():
        if pd.api.types.is_numeric_dtype(column):
            values = column.astype("float64").replace([np.inf, -np.inf], np.nan)
            # Beyond float32 a number would become infinite.
            found = {str(name): values.clip(-1e30, 1e30), f"{name} is missing": values.isna() * 1.0}
        elif column.nunique() <= MOST_CATEGORIES:
            dummies = pd.get_dummies(column, prefix=str(name), dummy_na=True, dtype=float)
            found = {str(key): dummies[key] for key in dummies}
        else:
            found = {}
        kept = {key: values for key, values in found.items() if values.nunique() > 1}
        columns.update(kept)
        if not kept:
            left_out.append(str(name))
    return pd.DataFrame(columns, index=frame.index), left_out

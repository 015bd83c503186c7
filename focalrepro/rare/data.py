"""Tables with rare positives: three that come along, your own CSV, and bringing them to a rate.

A rate of r means one positive to r negatives. For training, positives are left out until the rate is reached.
For testing none is: every real positive of the test part is used, and the positives share a weight that makes
the *weighted* prevalence the nominal one. Metrics that depend on the prevalence are then those of that rate,
with the noise of all positives at hand instead of a few.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from focalrepro.config import did_you_mean

MOST_CATEGORIES = 50  # a text column with more different values is a name or a number, not a category
SHARES = (0.5, 0.2)  # training, validation; the rest is the test part
LEAST_POSITIVES = 10  # of a CSV: 5 to train on, 2 to choose a threshold with, 3 to test on


@dataclass(frozen=True)
class RareData:
    """A binary task.

    x: float32 [n, d], NaN where a value is missing. y: int64 [n], 1 for the positives.
    own_rate: the data is rare by itself and is not resampled. table: the columns are measures and not pixels.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    about: str = ""
    own_rate: bool = False
    table: bool = True

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
    """Training part at the rate; validation and test part whole, weighted to it; row numbers in `rows`."""

    train: Part
    validation: Part
    test: Part
    rows: tuple[np.ndarray, ...]


def overlapping(negatives: int = 32_000, positives: int = 3_600, dimensions: int = 12) -> RareData:
    """Generated: each class a mixture of Gaussians, the positives' beside the negatives' and overlapping.

    There are enough negatives for 1:1000, and no classifier can be perfect.
    """
    rng = np.random.default_rng(0)
    common = rng.normal(0, 1.5, (4, dimensions))
    step = rng.normal(size=(2, dimensions))
    rare = common[:2] + 3.0 * step / np.linalg.norm(step, axis=1, keepdims=True)
    kinds = ((common, negatives), (rare, positives))
    x = [of[rng.integers(len(of), size=n)] + rng.normal(size=(n, dimensions)) for of, n in kinds]
    y, about = np.repeat([0, 1], [negatives, positives]), f"overlapping Gaussians in {dimensions} dimensions"
    return RareData("generated", np.concatenate(x).astype(np.float32), y, about)


def built_in() -> list[RareData]:
    """scikit-learn's handwritten digits and Wisconsin breast cancer data, and a generated table."""
    images, digit = load_digits(return_X_y=True)
    cells, benign = load_breast_cancer(return_X_y=True)
    about = "handwritten digits of 8×8 pixels, 8 against the rest", "30 measures of cell nuclei, malignant"
    return [
        RareData("digits", images.astype(np.float32), (digit == 8).astype(np.int64), about[0], table=False),
        RareData("breast cancer", cells.astype(np.float32), (benign == 0).astype(np.int64), about[1]),
        overlapping(),
    ]


def rate_name(rate: float) -> str:
    """A rate as it is spoken of: 1:100."""
    return f"1:{rate:.0f}" if rate >= 10 else f"1:{rate:.2g}"


def count_of(number: int, noun: str) -> str:
    """A number and its noun, which has an s unless it is one: 1 positive, 16 positives."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def training_counts(y: np.ndarray, rate: float) -> tuple[int, int]:
    """Positives and negatives to keep of the labels so that there are `rate` negatives to one positive.

    All negatives where the positives suffice for them, otherwise all positives and fewer negatives.
    """
    positives, negatives = int((y == 1).sum()), int((y == 0).sum())
    wanted = round(negatives / rate)
    return (wanted, negatives) if wanted <= positives else (positives, round(positives * rate))


def split(data: RareData, rate: float, seed: int) -> Split:
    """Splits both classes alike by the seed, thins out the training part to the rate, weights the rest to it.

    Missing values become the training part's median, and its mean and standard deviation standardise all
    parts. Data with `own_rate` is neither thinned out nor weighted.
    """
    rng, classes = np.random.default_rng(seed), []
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(data.y == label))
        classes.append(np.split(rows, np.round(np.cumsum(SHARES) * len(rows)).astype(int)))
    train, validation, test = (np.sort(np.concatenate(part)) for part in zip(*classes, strict=True))
    if not data.own_rate:
        counts = zip((1, 0), training_counts(data.y[train], rate), strict=True)
        kept = [rng.choice(train[data.y[train] == label], count, replace=False) for label, count in counts]
        train = np.sort(np.concatenate(kept))
    scale = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    scale.fit(data.x[train].astype(np.float64))
    parts = []
    for rows in (train, validation, test):
        x, y = scale.transform(data.x[rows].astype(np.float64)), data.y[rows]
        weight = np.ones(len(y))
        if rows is not train and not data.own_rate:
            weight[y == 1] = (y == 0).sum() / (rate * max((y == 1).sum(), 1))
        parts.append(Part(x.astype(np.float32), y, weight))
    return Split(*parts, rows=(train, validation, test))


def read_csv(path: Path, target: str) -> RareData:
    """A CSV with a header and a binary target column, at its own rate; the rarer value is the positive one.

    Text columns become one column per category (those with more than 50 values are left out), missing values
    stay NaN with a column beside it that says so. Errors, each of one line that names file, column and mend:
    FileNotFoundError; ValueError for what is no CSV, rows with more cells than the header, and a target
    that is missing, doubled, copied in another column, not binary, empty in some rows or too rare.
    """
    try:
        frame = _table(path, target)
        y, positive = _labels(frame, target)
        x, left_out = _inputs(frame.drop(columns=target))
        if not x.shape[1]:
            usable = f"columns must be numbers, or text with at most {MOST_CATEGORIES} different values"
            raise ValueError(f"no usable column beside {target!r}: {usable}, and vary. Add such a column")
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(" ".join(f"{path}: {error}".split())) from None  # one line, whatever the file holds
    about = f"positive is {target} = {positive}, {x.shape[1]} inputs"
    if left_out:
        about += f"; left out (constant, or text with many values): {', '.join(left_out)}"
    return RareData(path.name, x, y, " ".join(about.split()), own_rate=True)


PARTED = {";": "semicolons", "\t": "tabs"}


def _table(path: Path, target: str) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError("no such file; give --csv the path of a CSV file with a header line")
    try:
        names = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].fillna("").str.strip().tolist()
        by = [by for mark, by in PARTED.items() if len(names) == 1 and mark in names[0]]
        parted = f"its columns are parted by {by[0]}; save it with commas" if by else ""
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of cells beyond the header
            frame = pd.read_csv(path, low_memory=False, index_col=False)
    except pd.errors.ParserWarning:
        if parted:  # decimal commas, then, are the cells beyond the header
            raise ValueError(f"no column {target!r}: {parted} and decimal points") from None
        what = f"rows have more cells than the header has names, {count_of(len(names), 'name')}"
        raise ValueError(f"{what}; name every column, or remove the cells beyond them") from None
    except Exception as error:  # pandas has no common class for what a file can have wrong
        what = f"not a readable CSV ({error})"
        raise ValueError(f"{what}; save it as UTF-8 with commas and a header line") from None
    if (times := names.count(target.strip())) > 1:
        raise ValueError(f"the header has {target!r} {times} times; rename or remove all but one of them")
    if target not in frame:
        what, hint = f"no column {target!r}", did_you_mean(target, frame.columns) or "."
        if parted:
            raise ValueError(f"{what}: {parted}")
        listed = ", ".join(c if c == c.strip() else repr(c) for c in frame.columns[:12]) + (
            ", …" if frame.shape[1] > 12 else ""
        )
        raise ValueError(f"{what}{hint} Give --target one of: {listed}")
    if frame[target].isna().any():  # unless "NA" or "None" is a class's name, and no cell is empty
        texts = pd.read_csv(path, usecols=[target], dtype=str, keep_default_na=False)[target]
        frame[target] = texts.mask(texts.str.strip() == "")
    return frame


def _labels(frame: pd.DataFrame, target: str) -> tuple[np.ndarray, object]:
    """0/1 labels, int64 [n], and the value that is 1."""
    what, counts = f"column {target!r}", frame[target].value_counts()
    if missing := int(frame[target].isna().sum()):
        raise ValueError(f"{what} is empty in {missing} rows; fill or remove these rows")
    if len(counts) != 2:
        told = (repr(v) if isinstance(v, str) else str(v) for v in counts.index[:5])
        found = ", ".join(value[:40] for value in told) + (", …" if len(counts) > 5 else "")
        mend = "a target has two, such as 0 and 1: choose another column, or write one that has"
        raise ValueError(f"{what} has {count_of(len(counts), 'different value')} ({found}); {mend}")
    # Equally many of both: the greater value, so that 1 is positive and not 0.
    positive = counts.index[1] if counts.iloc[0] != counts.iloc[1] else max(counts.index)
    if counts.iloc[1] < LEAST_POSITIVES:
        few = f"{what} is {str(positive)[:40]} in only {counts.iloc[1]} rows; at least {LEAST_POSITIVES} are"
        raise ValueError(f"{few} needed to train, choose a threshold and test: collect more of them")
    codes = {name: pd.factorize(column, use_na_sentinel=False)[0] for name, column in frame.items()}
    if copies := [repr(n) for n in codes if n != target and np.array_equal(codes[n], codes[target])]:
        told = f"column {', '.join(copies)} tells {target!r} in every row"
        raise ValueError(f"{told}: a copy of it; remove that column")
    return (frame[target] == positive).to_numpy(np.int64), positive


def _inputs(frame: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Inputs float32 [n, d] with indicators of missing values, and the names of the columns left out."""
    pieces, left_out = [pd.DataFrame(index=frame.index)], []
    for name, column in frame.items():
        is_number = pd.api.types.is_numeric_dtype(column)
        if is_number:  # beyond float32 a number would become infinite
            column = column.astype("float64").replace([np.inf, -np.inf], np.nan).clip(-1e30, 1e30)
        if column.nunique(dropna=False) < 2 or not (is_number or column.nunique() <= MOST_CATEGORIES):
            left_out.append(name)
        else:
            missing = column.isna()
            pieces += [column, missing] if is_number else [pd.get_dummies(column), missing]
    x = pd.concat(pieces, axis=1).astype(np.float64)  # a date in seconds needs the digits
    return x.loc[:, (x.nunique() > 1).to_numpy()].to_numpy(), left_out

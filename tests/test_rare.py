"""Rare events: rates, splits, weighted metrics, batched training, CSVs and the sentences about the results."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk

from focalrepro import cli, rare, rare_data, rare_figures, rare_verdicts
from focalrepro.rare import CE, METHODS, MOVED, RareSettings
from focalrepro.rare_metrics import best_threshold, calibration_error, decisions, metrics, recall_at_fpr

FAST = RareSettings(hidden=8, steps=25, batch=64)


@pytest.fixture(scope="module")
def small():
    return rare_data.overlapping(negatives=1500, positives=300, dimensions=5)


@pytest.fixture(scope="module")
def frame(small):
    return rare.run_rare([small], (10, 30), 2, FAST, progress=False)


# ---- rates and splits


@pytest.mark.parametrize("rate", [10, 37, 100])
def test_resampling_gives_the_rate(small, rate):
    s = rare_data.split(small, rate, seed=3)
    positives, negatives = (s.train.y == 1).sum(), (s.train.y == 0).sum()
    assert positives == round(negatives / rate)
    assert negatives == 750
    assert (s.train.weight == 1).all()
    for part, share in ((s.validation, 0.2), (s.test, 0.3)):
        assert (part.y == 1).sum() == share * 300  # every real positive is used
        assert part.weight[part.y == 0].sum() / part.weight[part.y == 1].sum() == pytest.approx(rate)


def test_few_positives_take_fewer_negatives():
    y = np.repeat([0, 1], [1000, 20])
    assert rare_data.training_counts(y, 10) == (20, 200)
    assert rare_data.training_counts(y, 100) == (10, 1000)


def test_parts_are_disjoint_and_differ_by_seed(small):
    first, second = (rare_data.split(small, 10, seed) for seed in (0, 1))
    for s in (first, second):
        rows = np.concatenate(s.rows)
        assert len(np.unique(rows)) == len(rows)
        assert np.array_equal(small.y[s.rows[2]], s.test.y)
    assert not np.array_equal(first.rows[2], second.rows[2])
    assert np.array_equal(first.rows[0], rare_data.split(small, 10, 0).rows[0])


def test_standardised_and_filled_by_the_training_part(small):
    x = small.x.copy()
    x[::7, 2] = np.nan
    s = rare_data.split(dataclasses.replace(small, x=x), 10, seed=0)
    assert np.allclose(s.train.x.mean(0), 0, atol=1e-4) and np.allclose(s.train.x.std(0), 1, atol=1e-4)
    raw = x[s.rows[0]]
    median = np.nanmedian(raw[:, 2])
    filled = np.where(np.isnan(raw[:, 2]), median, raw[:, 2])
    test_row = int(np.flatnonzero(np.isnan(x[s.rows[2], 2]))[0])
    assert s.test.x[test_row, 2] == pytest.approx((median - filled.mean()) / filled.std(), abs=1e-4)


def test_own_rate_is_left_alone(small):
    s = rare_data.split(dataclasses.replace(small, own_rate=True), 1000, seed=0)
    assert (s.train.y == 1).sum() == 150 and (s.train.y == 0).sum() == 750
    assert (s.test.weight == 1).all()


def test_built_in_data():
    counts = {d.name: ((d.y == 1).sum(), (d.y == 0).sum()) for d in rare_data.built_in()}
    assert counts == {"digits": (174, 1623), "breast cancer": (212, 357), "generated": (3600, 32000)}


# ---- metrics


def test_metrics_equal_sklearns():
    rng = np.random.default_rng(0)
    y, weight = (rng.random(400) < 0.2).astype(int), rng.random(400) * 3
    score = np.clip(0.3 * y + rng.random(400) * 0.7, 0, 1).round(2)  # with ties
    found = metrics(y, score, weight)
    assert found["ap"] == pytest.approx(sk.average_precision_score(y, score, sample_weight=weight))
    assert found["log_loss"] == pytest.approx(sk.log_loss(y, np.clip(score, 1e-12, 1), sample_weight=weight))
    flagged = score >= 0.5
    for name, theirs in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert found[name] == pytest.approx(theirs(y, flagged, sample_weight=weight))


def test_a_weight_is_that_many_rows():
    rng = np.random.default_rng(1)
    y, score, weight = rng.integers(0, 2, 60), rng.random(60), rng.integers(1, 4, 60)
    repeated = metrics(np.repeat(y, weight), np.repeat(score, weight), np.ones(weight.sum()))
    assert metrics(y, score, weight) == pytest.approx(repeated)


def test_recall_at_fpr():
    # 200 negatives: two may be flagged. Six of the ten positives score higher than the third negative.
    negatives = np.linspace(0, 0.8, 200)
    positives = np.concatenate([np.full(6, negatives[-3] + 1e-6), np.full(4, 0.1)])
    y = np.repeat([0, 1], [200, 10])
    score = np.concatenate([negatives, positives])
    assert recall_at_fpr(y, score, np.ones(210)) == pytest.approx(0.6)
    assert recall_at_fpr(y, score, np.where(y == 1, 0.01, 1.0)) == pytest.approx(0.6)
    assert recall_at_fpr(y, np.zeros(210), np.ones(210)) == 0


def test_calibration_error():
    score = np.repeat([0.1, 0.9], 100)
    y = np.concatenate([np.repeat([1, 0], [10, 90]), np.repeat([1, 0], [90, 10])])
    assert calibration_error(y, score, np.ones(200)) == pytest.approx(0, abs=1e-12)
    y[100:] = np.repeat([1, 0], [60, 40])  # 0.9 said, 0.6 true, on half of the rows
    assert calibration_error(y, score, np.ones(200)) == pytest.approx(0.15)
    weight = np.repeat([3.0, 1.0], 100)
    assert calibration_error(y, score, weight) == pytest.approx(0.075)
    assert calibration_error(np.ones(2), np.ones(2), np.ones(2)) == 0


def test_nothing_flagged_has_no_precision():
    found = decisions(np.array([0, 1]), np.array([False, False]), np.ones(2))
    assert np.isnan(found["precision"]) and found["recall"] == 0 and found["f1"] == 0


def test_best_threshold():
    y, score = np.array([0, 0, 1, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.3, 0.6, 0.8])
    rng = np.random.default_rng(2)
    for weight in (np.ones(6), rng.random(6) + 0.1):
        moved = best_threshold(y, score, weight)
        tried = [decisions(y, score >= t, weight)["f1"] for t in (*np.unique(score), 2)]
        assert decisions(y, score >= moved, weight)["f1"] == pytest.approx(max(tried))
    assert best_threshold(np.array([0, 1]), np.array([0.5, 0.5]), np.ones(2)) == 0.5


# ---- training


def test_losses_are_what_they_are_called():
    logits, y = torch.tensor([[0.3, -1.2, 2.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    ratio = torch.tensor([[2.0]])
    p = torch.sigmoid(logits)
    ce = -(y * p.log() + (1 - y) * (1 - p).log())
    p_t = torch.where(y == 1, p, 1 - p)
    expected = (
        ce,
        ce * torch.where(y == 1, 2.0, 1.0),
        ce * (1 - p_t) ** 2 * torch.where(y == 1, 0.25, 0.75),
        ce * (1 - p_t) ** 2,
    )
    for method, loss in zip(METHODS, expected, strict=True):
        assert method.loss(logits, y, ratio).item() == pytest.approx(loss.mean().item(), rel=1e-5)


def test_starts_at_the_prior():
    ratio = torch.tensor([9.0])
    weights = rare.first_weights(3, ratio, [0], METHODS, hidden=4)
    start = rare.forward(weights, torch.zeros(1, 1, 3)).sigmoid()[0, :, 0]
    assert start.tolist() == pytest.approx([0.1, 0.5, 0.1, 0.1])
    assert torch.equal(weights[0][0, 0], weights[0][0, 3])  # otherwise all losses start alike


def test_batched_training_equals_single(small):
    splits = [rare_data.split(small, 30, seed) for seed in (0, 1)]
    together = rare.train(splits, [0, 1], METHODS, FAST)
    for i, j in ((0, 0), (1, 2)):
        alone = rare.train([splits[i]], [i], METHODS[j : j + 1], FAST)
        for many, one in zip(together, alone, strict=True):
            assert torch.allclose(many[i, j], one[0, 0], atol=2e-5)


def test_small_training_parts_are_taken_whole(small):
    whole = RareSettings(hidden=8, steps=150, batch=5000)
    s = [rare_data.split(small, 10, 0)]
    found = rare.scores(rare.train(s, [0], METHODS[:1], whole), s[0].test.x[None])[0, 0]
    assert metrics(s[0].test.y, found, s[0].test.weight)["ap"] > 0.4  # chance is 1/11


def test_deterministic(small, frame):
    again = rare.run_rare([small], (10, 30), 2, FAST, progress=False)
    pd.testing.assert_frame_equal(frame, again)


def test_rows(frame):
    assert len(frame) == 2 * 2 * (len(METHODS) + 1)
    assert not frame.duplicated(["dataset", "rate", "method", "seed"]).any()
    assert frame[["ap", "recall_at_1fpr", "ece", "recall", "f1"]].stack().between(0, 1).all()
    assert set(frame["train_positives"]) == {75, 25}


def test_a_moved_threshold_changes_decisions_only(frame):
    by = frame.set_index(["rate", "seed"])
    ce, moved = by[by["method"] == CE.name], by[by["method"] == MOVED]
    for same in ("ap", "recall_at_1fpr", "ece", "log_loss"):
        assert (ce[same] == moved[same]).all()
    assert (ce["threshold"] == 0.5).all() and (moved["threshold"] != 0.5).all()
    assert (ce["recall"] != moved["recall"]).any()


def test_too_few_positives_are_said(small):
    said = []
    found = rare.run_rare([small], (1000,), 1, FAST, progress=False, notice=said.append)
    assert found.empty
    assert said == ["generated at 1:1000 is not run: 1 positive to train on"]


@pytest.mark.parametrize("rates, seeds", [((0.5,), 2), ((float("nan"),), 2), ((10,), 0)])
def test_wrong_rates_and_seeds(small, rates, seeds):
    with pytest.raises(ValueError, match="1 or more"):
        rare.run_rare([small], rates, seeds, FAST, progress=False)


def test_wrong_settings():
    with pytest.raises(ValueError, match="steps"):
        RareSettings(steps=0)
    with pytest.raises(ValueError, match="shares"):
        RareSettings(shares=(0.7, 0.3))


# ---- sentences


@pytest.fixture
def made_up():
    """Cross entropy, and four methods: better, worse, neither, and its very scores."""
    shifts = {"better": [0.1, 0.11, 0.12], "worse": [-0.1, -0.11, -0.12], "neither": [-0.1, 0.1, 0.02]}
    base = np.array([0.5, 0.6, 0.4])
    values = {CE.name: base, MOVED: base} | {name: base + shift for name, shift in shifts.items()}
    rows = [
        {"dataset": "X", "rate": 1000.0, "method": name, "seed": seed, "train_positives": 5}
        | {"train_negatives": 5000, "test_positives": 9}
        | dict.fromkeys(rare_verdicts.METRICS, value)
        for name, found in values.items()
        for seed, value in enumerate(found)
    ]
    return pd.DataFrame(rows)


def test_verdicts(made_up):
    better, worse, neither = rare_verdicts.verdicts(made_up)
    # t of 2 degrees of freedom is 4.303; 0.01 / sqrt(3) times that is 0.025
    assert better == (
        "better against cross entropy at 1:1000 on X: average precision +0.110 (+0.085 … +0.135): clearly better"
    )
    assert worse.endswith("average precision -0.110 (-0.135 … -0.085): clearly worse")
    assert neither.endswith("no clear difference")
    assert rare_verdicts.verdicts(made_up, only="clearly worse") == [worse]


def test_less_is_better_for_calibration(made_up):
    better, worse, _ = rare_verdicts.verdicts(made_up, ("ece",))
    assert better.endswith("clearly worse") and worse.endswith("clearly better")


def test_counts_and_when_not(made_up):
    counted = rare_verdicts.counts(made_up, ("ap",)).loc["average precision"]
    assert counted.loc["better", "clearly better"] == 1 and counted.loc["worse", "clearly worse"] == 1
    said = rare_verdicts.when_not(made_up, "worse", ("ap",))
    assert "clearly better in 0, clearly worse in 1, no clear difference in 0" in said
    assert "    - clearly worse: X at 1:1000: -0.110 (-0.135 … -0.085)" in said
    (line,) = rare_verdicts.place_by_place(made_up, "better", "f1")
    assert line == "X at 1:1000: +0.110 (+0.085 … +0.135), clearly better"


def test_the_compact_table_marks_what_is_clear(made_up):
    shown = rare_verdicts.compact(made_up, ("ap", "ece")).loc[("X", "1:1000")]
    assert shown["average precision"].to_dict() == {
        **{CE.name: "0.500", "better": "0.610\u00a0▲", "worse": "0.390\u00a0▼", "neither": "0.507"}
    }
    assert shown["calibration error"]["better"] == "0.610\u00a0▼", "less of it is better"


def test_tables_for_readers(made_up):
    summary = rare_verdicts.summarise(made_up)
    sizes = rare_verdicts.sizes(summary)
    assert sizes.loc[("X", "1:1000")].tolist() == [5, 5000, 9]
    shown = rare_verdicts.table(summary)
    headers = [*sizes.columns, *sizes.index.names, *shown.columns, *rare_verdicts.counts(made_up).index.names]
    assert not any("_" in text for text in headers)
    html = rare_verdicts.folded(shown, "All of it")
    assert html.startswith("<details><summary>All of it</summary>") and html.count("<tr") == 1 + len(shown)
    assert rare_verdicts.as_list(["a", "b"]) == "- a\n- b" and rare_verdicts.as_list([], "none") == "none"


def test_the_conclusion_counts(made_up):
    """Two settings of focal loss, one better by .11 and one worse; a moved threshold that improves F1."""
    names = {"better": METHODS[2].name, "worse": METHODS[3].name}
    frame = made_up.replace({"method": names})
    frame.loc[frame["method"] == MOVED, "f1"] += [0.2, 0.21, 0.22]
    said = rare_verdicts.conclusion(frame)
    assert "focal loss is clearly better in 1 and clearly worse in 1 of 2 comparisons" in said
    assert "helps: X at 1:1000, 5 positives (γ = 2, α = .25: +0.110)." in said
    assert "harms: X at 1:1000, 5 positives (γ = 2: -0.110)." in said
    assert "makes F1 clearly better in 1 and clearly worse in 0 of 1 comparison with" in said
    assert "nothing can be concluded" in rare_verdicts.conclusion(frame[frame["seed"] == 0])


def test_one_seed_has_no_interval(made_up):
    one = made_up[made_up["seed"] == 0]
    assert all(s.endswith("one seed, no interval") for s in rare_verdicts.verdicts(one))
    assert rare_verdicts.summarise(one)["ap_low"].isna().all()
    assert "–" not in rare_verdicts.table(rare_verdicts.summarise(one))["average precision"].iloc[0]


def test_summary_interval(made_up):
    row = rare_verdicts.summarise(made_up).iloc[0]
    half = 4.302653 * 0.1 / 3**0.5
    assert (row["ap"], row["ap_low"], row["ap_high"]) == pytest.approx((0.5, 0.5 - half, 0.5 + half))


def test_reference_must_be_there(made_up):
    with pytest.raises(ValueError, match="nobody"):
        rare_verdicts.differences(made_up, reference="nobody")


# ---- figures


def test_figures(small, frame):
    summary = rare_verdicts.summarise(frame)
    assert len(rare_figures.by_rate(summary, ("ap", "ece", "f1")).axes) == 3
    shown = rare_figures.paired(rare_verdicts.differences(frame)).axes[0]
    assert [t.get_text() for t in shown.get_yticklabels()] == ["generated, 1:10", "generated, 1:30"]
    splits, _, scores = rare.fitted_scores(small, 30, 2, FAST)
    figure = rare_figures.reliability(splits, scores, METHODS, "title")
    assert len(figure.axes[0].lines) == 1 + len(METHODS)
    for line in figure.axes[0].lines[1:]:
        assert len(line.get_xdata()) > 0 and np.isfinite(line.get_ydata()).all()


# ---- your own CSV


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    n = 400
    fraud = np.where(np.arange(n) % 10 == 0, "yes", "no")
    amount = rng.normal(0, 1, n) + 2.5 * (fraud == "yes")
    amount[::9] = np.nan
    country = rng.choice(["AT", "CH", "DE"], n).astype(object)
    country[::13] = None
    return pd.DataFrame(
        {
            "amount": amount,
            "country": country,
            "night": rng.random(n) < 0.5,
            "name": [f"row {i}" for i in range(n)],
            "constant": 1,
            "fraud": fraud,
        }
    )


def test_csv_columns(table, tmp_path):
    table.to_csv(tmp_path / "f.csv", index=False)
    data = rare_data.read_csv(tmp_path / "f.csv", "fraud")
    assert data.own_rate and data.rate == 9 and data.y.sum() == 40
    assert data.x.shape == (400, 2 + 4 + 1)  # amount + indicator, 3 countries + missing, night
    assert np.isnan(data.x[:, 0]).sum() == (data.x[:, 1] == 1).sum() == 45
    assert "fraud = yes" in data.about and "name, constant" in data.about


def test_csv_end_to_end(table, tmp_path, capsys):
    table.to_csv(tmp_path / "f.csv", index=False)
    out = tmp_path / "new" / "rows.csv"
    assert cli.rare(csv=tmp_path / "f.csv", target="fraud", seeds=2, steps=60, out=out) == 0
    printed = capsys.readouterr().out
    assert "f.csv at 1:9, 20 positives to train on" in printed
    assert "focal loss γ = 2, α = .25 against cross entropy at 1:9 on f.csv: average precision" in printed
    rows = pd.read_csv(out)
    assert len(rows) == 2 * (len(METHODS) + 1) and (rows["ap"] > 0.3).all()  # chance is 0.1
    assert list(out.parent.iterdir()) == [out]


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file; give --csv"):
        rare_data.read_csv(tmp_path / "none.csv", "y")


def broken(table, change):
    return table.assign(**change) if isinstance(change, dict) else change(table)


@pytest.mark.parametrize(
    "target, change, message",
    [
        ("frod", {}, r"no column 'frod'; did you mean 'fraud'\? Give --target one of: amount, country"),
        ("country", lambda t: t.dropna(), r"column 'country' has 3 different values .*choose another column"),
        ("constant", {}, r"column 'constant' has 1 different value \(1\)"),
        ("country", {}, r"column 'country' is empty in 31 rows; fill or remove"),
        ("fraud", lambda t: t.head(60), r"column 'fraud' is yes in only 6 rows; at least 10 .*collect more"),
        ("fraud", lambda t: t[["name", "constant", "fraud"]], r"no usable column beside 'fraud'.*Add such a"),
    ],
)
def test_csv_errors(table, tmp_path, target, change, message):
    path = tmp_path / "f.csv"
    broken(table, change).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message) as error:
        rare_data.read_csv(path, target)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00,\x81\n1", b'a,b\n1,2\n1,2,3,4\n"'])
def test_unreadable_csv(tmp_path, content):
    (tmp_path / "f.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"f\.csv: not a readable CSV .*save it as UTF-8"):
        rare_data.read_csv(tmp_path / "f.csv", "a")


def test_semicolons_are_recognised(tmp_path):
    (tmp_path / "f.csv").write_text("a;y\n1;0\n")
    with pytest.raises(ValueError, match=r"f\.csv: no column 'y': .* semicolons; save it with commas"):
        rare_data.read_csv(tmp_path / "f.csv", "y")


def test_zero_and_one_keep_their_meaning(tmp_path):
    pd.DataFrame({"a": range(40), "y": [0, 1] * 20}).to_csv(tmp_path / "f.csv", index=False)
    assert "y = 1" in rare_data.read_csv(tmp_path / "f.csv", "y").about


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target": "y"}, "belong together"),
        ({"csv": "f.csv"}, "belong together"),
        ({"csv": "f.csv", "target": "y", "rates": (10,)}, "its own rate"),
        ({"out": Path(".")}, "is a folder"),
        ({"seeds": 0}, "seeds is 0"),
        ({"rates": (100000,), "steps": 1}, "smaller numbers"),
    ],
)
def test_command_errors(options, message):
    with pytest.raises(ValueError, match=message):
        rare.command(**options)

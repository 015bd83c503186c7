"""A loss of one's own in a study: searched, judged at its best rate beside others, and shown by a page."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import record

from focalrepro import cli
from focalrepro.show.profile_page import page
from focalrepro.show.study import Study
from focalrepro.study import study as module
from focalrepro.study.ablations import Ablation, Planned
from focalrepro.study.campaign import run_missing, with_ids
from focalrepro.study.own import ablation_of, ablations_of, rates_of
from focalrepro.study.profiles import PROFILES
from focalrepro.study.rows import Row
from focalrepro.study.store import Store
from focalrepro.training.own_loss import adopt

README = Path(__file__).parents[2] / "README.md"
BASE = PROFILES["smoke"].base
LOSS = """
from focalrepro.losses import focal_terms

def mine(logits, labels, gamma=1.5):
    return focal_terms(logits, labels, 0.5, gamma)
"""
ABLATION = """
from focalrepro.study.ablations import Ablation
from focalrepro.study.rows import Row
mine = Ablation("mine", "two γ", "a question", (Row("a", {"gamma": 0.5}), Row("b", {"gamma": 1.5})))
"""
TUNED = {0.001: 4.0, 0.002: 9.0, 0.004: 9.0, 0.008: 1.0}  # tune AP; of equals the lowest rate


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path / "results"))
    (tmp_path / "own.py").write_text(LOSS)
    return f"{tmp_path / 'own.py'}:mine"


@pytest.fixture
def asked(monkeypatch):
    """The configs that a campaign was asked for; their records are made up."""
    found = []

    def train(missing, store, *more):
        found.append([p.config for p in missing])
        for config in found[-1]:
            ap = 20.0 + 5 * ("@" in config.loss)
            store.put(record(config, ap, [ap - 1, ap + 1], tune={"AP": TUNED.get(config.lr, 0.0)}))
        return 0

    base = BASE.replace(score_threshold=0.0)
    monkeypatch.setattr(module, "run_planned", train)
    monkeypatch.setattr(module, "get_profile", lambda name: replace(PROFILES[name], base=base))
    return found


def test_it_is_searched_and_judged_at_its_best_rate(spec, asked, capsys):
    text = Study("smoke").run_loss(spec, seeds=2).data
    search, judged = asked
    name = search[0].loss
    assert [(c.lr, c.seed) for c in search] == [(r, s) for s in (1000, 1001) for r in TUNED]
    assert {(c.loss, c.gamma) for c in search} == {(name, 1.5)}
    others = [("focal", 0.0, 0.5, 0.006), ("focal", 0.0, 0.75, 0.006), ("focal", 2.0, 0.25, 0.006)]
    assert [(c.loss, c.gamma, c.alpha, c.lr) for c in judged[:4]] == [*others, (name, 1.5, 0.25, 0.002)]
    assert [c.seed for c in judged] == [0] * 4 + [1] * 4
    assert "at γ = 0 it is cross entropy × 0.5 for objects" in capsys.readouterr().out
    assert "| mine | 25.0 | " in text and "| 0.002 |" in text and "+5.0 AP" in text
    assert (
        "mine is not judged yet, with fewer than 3 seeds: less CE, α = .5 (" in text and "one rate: a" in text
    )

    study = Study("smoke")
    assert study.seeds_of(f"own-{name}-lr") == 2, "whatever the profile's own number is"
    before = len(asked)
    assert Study("smoke").run_loss(spec, seeds=2).data == text and len(asked) == before, "nothing is missing"
    assert "**mine is clearly better than CE, α = .5 (" in Study("smoke").run_loss(spec, seeds=3).data
    text, _ = page(Study("smoke"))
    assert f"own-{name}.png" in text and "**mine is clearly better than" in text
    assert "focalrepro run --loss FILE.py:mine --profile smoke --seeds 3" in text


def test_a_changed_body_is_trained_anew(spec, asked, tmp_path):
    Study("smoke").run_loss(spec)
    (tmp_path / "own.py").write_text(LOSS.replace("0.5", "0.6"))
    Study("smoke").run_loss(spec)
    assert [len(configs) for configs in asked] == [8, 4, 8, 1], "the others are there"
    assert len({c.loss for configs in asked for c in configs}) == 3


def test_the_newest_search_chooses():
    search, _ = ablations_of(BASE.replace(loss="mine@0123456789ab"))
    configs = search.configs(BASE, [0]).values()
    old = [record(c, version=3, tune={"AP": c.lr}) for c in configs]
    assert rates_of(old, BASE) == {"mine@0123456789ab": 0.008}
    newer = [*old, record(next(iter(configs)), version=4)]
    assert rates_of(newer, BASE) == {"mine@0123456789ab": 0.001}
    assert rates_of(newer, BASE.replace(steps=7)) == {}, "the trials of another recipe choose no rate of this"


def test_worker_processes_train_with_it(data_root, tmp_path):
    (tmp_path / "own.py").write_text(LOSS)
    loss = adopt(f"{tmp_path / 'own.py'}:mine")
    (tmp_path / "own.py").unlink()
    config, store = BASE.replace(loss=loss.name, steps=2, fpn_channels=8), Store(tmp_path / "runs")
    jobs = with_ids([Planned(config, (("own", "mine"),))])
    assert run_missing(jobs, store, "cpu", workers=1) == 0
    (found,) = store.records()
    assert found.config.loss == loss.name and min(found.history["class_loss"]) > 0


def test_an_ablation_of_ones_own(tmp_path, asked, spec):
    (tmp_path / "table.py").write_text(ABLATION)
    mine = ablation_of(f"{tmp_path / 'table.py'}:mine")
    study = Study("smoke").run(mine)
    assert isinstance(mine, Ablation) and list(study.table("mine")["row"]) == ["a", "b"]
    assert [c.gamma for c in asked[0]] == [0.5, 1.5]
    for name, why in (("Row", "no Ablation 'Row'; there is mine"),):
        with pytest.raises(ValueError, match=why):
            ablation_of(f"{tmp_path / 'table.py'}:{name}")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--loss", "none.py:f"), "none.py: no such file; --loss must be FILE.py:NAME"),
        (("--loss", "none.py:f", "--seeds", "100000"), "--seeds is 100000; it must be 1"),
        (("--loss", "none.py"), "--loss is 'none.py'; it must be FILE.py:NAME, as my_loss.py:poly"),
        (("--ablation", "none.py:f"), "none.py: no such file; --ablation must be"),
        (("1a", "--loss", "none.py:f"), "--loss or --ablation stands alone"),
        (("--loss", "none.py:f", "--gpus-per-run", ".5"), "--loss or --ablation stands alone"),
    ],
)
def test_wrong_input_is_one_line(told, args, said):
    line = told("run", *args, "--profile", "smoke")
    assert line.startswith(f"focalrepro: {said}") and len(line.splitlines()) == 1


def test_the_command_prints_the_comparison(spec, asked, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["focalrepro", "run", "--loss", spec, "--profile", "smoke", "--seeds", "3"]
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0 and "**mine is clearly better than" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "it has no rows"),
        ((Row("a", {"gamma": 2.0}), Row("a", {"gamma": 1.0})), "'a' stand there twice"),
        ((Row("a", {"seed": 3}),), "row 'a' sets the seed"),
    ],
)
def test_an_ablation_that_would_mislead_is_refused(rows, said):
    with pytest.raises(ValueError, match=said):
        Ablation("mine", "a title", "a question", rows)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ('lambda base: (Row("a", {"alpha": base.alphaz}),)', "line 4: AttributeError: .* 'alphaz'"),
        ("lambda base: None", "rows.py: TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_rows_that_fail_are_told_by_their_file(tmp_path, made, said):
    imports = "from focalrepro.study.ablations import Ablation\nfrom focalrepro.study.rows import Row\n\n"
    (tmp_path / "rows.py").write_text(f'{imports}mine = Ablation("mine", "a title", "a question", {made})\n')
    with pytest.raises(ValueError, match=said):
        Study("smoke").run(ablation_of(f"{tmp_path / 'rows.py'}:mine"))


def test_the_readmes_own_ablation(tmp_path):
    found = re.search(r"```python\n(from focalrepro.study.ablations.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "my_ablation.py").write_text(found[1])
    configs = ablation_of(f"{tmp_path / 'my_ablation.py'}:widths").configs(PROFILES["quick"].base, [0])
    assert [c.fpn_channels for c in configs.values()] == [16, 32, 64]


def test_a_field_that_is_none_is_told_with_its_row():
    mine = Ablation("mine", "a title", "a question", (Row("a", {"stepz": 3}),))
    with pytest.raises(ValueError, match=r"ablation 'mine', row 'a': RunConfig has no field stepz; did you"):
        Study("smoke").run(mine)
    with pytest.raises(ValueError, match="ablation 'mine': seeds is -2; it must be 1"):
        Ablation("mine", "a title", "a question", iter(mine.rows), seeds=-2)


def test_an_ablation_cannot_take_a_built_in_name():
    mine = Ablation("1b", "a title", "a question", (Row("a", {"gamma": 0.5}),))
    with pytest.raises(ValueError, match="'1b', which is built in"):
        Study("smoke").run(mine)


@pytest.mark.parametrize(("how", "said"), [({"seeds": -1}, "seeds is -1"), ({"seeds": 1.5}, "seeds is 1.5")])
def test_a_number_of_seeds_is_checked_in_python_too(how, said):
    with pytest.raises(ValueError, match=said):
        Study("smoke").run("1b", **how)

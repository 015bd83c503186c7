"""A loss in a user's file: what its name holds, what is asked of it before it trains, what is told of it."""

import re
import textwrap

import numpy as np
import pytest
import torch

from focalrepro.losses import focal_terms
from focalrepro.study.profiles import PROFILES
from focalrepro.training import own_loss
from focalrepro.training.criteria import get_loss
from focalrepro.training.dials import Dials
from focalrepro.training.own_loss import adopt, check

SMALL = PROFILES["smoke"].base
EXAMPLE = textwrap.dedent(own_loss.__doc__.split("::\n\n")[1].split("\n\nArguments")[0])
FOCAL = """
from focalrepro.losses import focal_terms

def focal(logits, labels, gamma, alpha=0.25):
    return focal_terms(logits, labels, alpha, gamma)
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function: the loss of a file of this content."""
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))

    def of(content, name):
        path = tmp_path / "mine.py"
        path.write_text(content)
        return adopt(f"{path}:{name}")

    return of


def lossy(line, head="x, labels"):
    return f"import torch\n\ndef mine({head}):\n    return {line}\n"


def test_the_example_is_what_its_paper_says(made):
    loss = made(EXAMPLE, "reduced")
    line = check(loss, loss.numbers)
    assert "finite at ±200 in fp64, fp32, bf16; its gradient is that of" in line
    assert line.endswith("at γ = 0 it is cross entropy") and loss.numbers == {"gamma": 2.0}
    x, labels = (
        torch.randn(2, 5, 3, dtype=torch.float64),
        torch.tensor([[0, -1, 2, 1, -1], [-1, 2, 2, 0, -1]]),
    )
    p = 1 / (1 + np.exp(-x.numpy()))
    p_t = np.where(labels.numpy()[..., None] == np.arange(3), p, 1 - p)
    wanted = (np.minimum((1 - p_t) / 0.5, 1) ** 1.5 * -np.log(p_t)).sum()
    dials = Dials.of(SMALL.replace(loss=loss.name, gamma=1.5))
    assert float(get_loss(loss.name)(x, labels, dials)) == pytest.approx(wanted, rel=1e-12)


def test_it_gets_the_numbers_of_a_run_and_no_ignored_anchor(made):
    loss = made(FOCAL, "focal")
    assert loss.numbers == {"alpha": 0.25}
    x, labels = torch.randn(1, 6, 2, requires_grad=True), torch.tensor([[0, 1, -1, -2, -2, -1]])
    value = get_loss(loss.name)(x, labels, Dials.of(SMALL.replace(gamma=1.0, alpha=0.75)))
    torch.testing.assert_close(value, focal_terms(x, labels, 0.75, 1.0).sum())
    value.backward()
    assert ((x.grad == 0).all(-1) == (labels == -2)).all()
    half = get_loss(loss.name)(x.bfloat16(), labels, Dials.of(SMALL))
    assert half.dtype == torch.float32, "200,000 anchors add up to more than bf16 can tell apart"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_terms_of_two_bytes_are_summed_in_four(made, dtype):
    loss = made(lossy(f"torch.ones_like(x, dtype=torch.{dtype})"), "mine")
    x, labels = torch.zeros(2, 100_000, 3), torch.zeros(2, 100_000, dtype=torch.int64)
    assert get_loss(loss.name)(x, labels, Dials.of(SMALL)) == 600_000


def test_a_changed_file_is_another_loss(made, tmp_path):
    first, again, other = made(FOCAL, "focal"), made(FOCAL, "focal"), made(FOCAL + "\n", "focal")
    assert first.name == again.name != other.name and own_loss.OWN.fullmatch(first.name)
    copies = sorted((tmp_path / "data/losses").iterdir())
    assert {c.stem for c in copies} == {first.name[-12:], other.name[-12:]}
    (tmp_path / "mine.py").unlink()
    assert get_loss(first.name).name == first.name
    (tmp_path / f"data/losses/{first.name[-12:]}.py").write_text("raise SystemExit")
    for name, why in ((first.name, "changed since"), ("focal@0123456789ab", "is not here; .*--loss FILE.py")):
        with pytest.raises(ValueError, match=why):
            get_loss(name)


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (FOCAL, "fokal", "mine.py: no function 'fokal'; there is focal; did you mean 'focal'?"),
        ("x = 1", "poly", "mine.py: no function 'poly'; there is none"),
        ("\nraise SystemExit('no')", "f", "mine.py, line 2: SystemExit: no"),
        ("def f(:\n", "f", "mine.py, line 1: SyntaxError: "),
        ("\nimport helper_of_mine\n", "f", "mine.py, line 2: ModuleNotFoundError: No module named"),
        ("def f(logits):\n    return logits", "f", "mine.py: f takes 1 arguments; it must take logits and"),
        (lossy("x", "x, labels, width"), "mine", "mine wants 'width', which is none of alpha, gamma"),
    ],
)
def test_a_file_that_will_not_do(made, tmp_path, content, name, said):
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        made(content, name)
    assert "\n" not in str(caught.value) and not (tmp_path / "data").exists(), "nothing is copied"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x.sum(-1)", r"mine@\w+ returns \[56\] of torch.float64; it must return .* \[56, 3\]"),
        ("1.0", "returns float; it must return"),
        ("x @ x", "mine.py, line 4: RuntimeError: "),
        ("-x.sigmoid().log()", r"mine@\w+ is inf at the logit -200 of class 0, label -1, in fp32"),
        ("(x.exp() + 1e-30).log()", r"mine@\w+ is inf at the logit 200 of class 2, label -1, in fp32"),
        ("(x - 200).abs().sqrt()", r"the gradient of mine@\w+ is nan at the logit 200 .* in fp64"),
        ("(x > 0).to(x.dtype)", "not differentiable: it is made from the logits by detach"),
        ("x.round()", "not differentiable: its gradient is 0 everywhere"),
        ("x * labels.abs_()[:, None]", "mine@.* changes the labels that it was given; let it clone them"),
    ],
)
def test_what_may_not_train(made, line, said):
    with pytest.raises(ValueError, match=said):
        check(made(lossy(line), "mine"), {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (FOCAL, "at γ = 0 it is cross entropy × 0.25 for objects, × 0.75 for background"),
        (FOCAL.replace("gamma)", "gamma + 1)"), "at γ = 0 it is not cross entropy"),
        (FOCAL.replace("gamma)", "gamma) * logits.sigmoid().detach()"), "NOT that of finite differences"),
        (FOCAL.replace("(logits, labels, alpha", "(logits.float(), labels, alpha"), "is that of finite"),
    ],
)
def test_what_is_told_of_it(made, content, said):
    assert said in check(made(content, "focal"), {"gamma": 2.0, "alpha": 0.25})


def test_a_built_in_name_is_none_of_them():
    with pytest.raises(ValueError, match=r"RunConfig\.loss is '../x@0123456789ab'; there are"):
        get_loss("../x@0123456789ab")

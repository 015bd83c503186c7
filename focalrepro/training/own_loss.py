"""A loss of one's own: a function in a file of the user's, named as FILE.py:FUNCTION.

It takes logits [N, K] and integer labels [N] (the class 0 … K-1, or -1, background) and returns the loss of
each element, [N, K]::

    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    def reduced(logits, labels, gamma=2.0):
        target = (labels[:, None] == torch.arange(logits.shape[1], device=logits.device)).to(logits.dtype)
        loss = binary_cross_entropy_with_logits(logits, target, reduction="none")
        return loss * (2 * -(-loss).expm1()).clamp(max=1) ** gamma

Arguments named like a number of RunConfig's (alpha, gamma, beta, gamma_object, epsilon) get that number;
their defaults are what a run takes unless told. The file is copied to `<data>/losses/<digest>.py`, and
`RunConfig.loss` is "reduced@<digest>": a changed file is another run, and worker processes and later commands
find the one that was meant. So the file must hold all that it needs beside installed packages.
"""

import hashlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from focalrepro.config import did_you_mean
from focalrepro.files import data_root, write_atomic
from focalrepro.losses import BACKGROUND, IGNORED, at_least_fp32, is_class
from focalrepro.training.dials import NUMBERS, Dials

OWN = re.compile(r"[^\W\d]\w*@[0-9a-f]{12}")  # what RunConfig.loss is for one
MEND = "its file is asked for again: --loss FILE.py:FUNCTION"


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Whatever a user's file raises, as a ValueError of one line with the file and its line."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):  # no fault of the file
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = [frame.lineno for frame in frames if frame.filename == str(path)]
        at = [error.lineno] if isinstance(error, SyntaxError) else at
        where = f"{path}, line {at[-1]}" if at else str(path)
        what = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().split("\n")[0]
        raise ValueError(f"{where}: {type(error).__name__}: {what}") from error


def split_spec(spec: str, option: str) -> tuple[Path, str]:
    """File and name of FILE.py:NAME. Errors: ValueError names the option; FileNotFoundError the file."""
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ValueError(f"{option} is {spec!r}; it must be FILE.py:NAME, as my_loss.py:poly")
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file}: no such file; {option} must be FILE.py:NAME")
    return Path(file), name


def module_of(content: bytes, path: Path) -> ModuleType:
    """A user's file executed as a module. Errors: ValueError with the file's line."""
    module = ModuleType(f"own_{hashlib.sha256(content).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickles look it up there
    with told(path):
        exec(compile(content, str(path), "exec"), module.__dict__)
    return module


def member(module: ModuleType, name: str, path: Path, kind: Callable[[object], bool], what: str) -> object:
    """What a module calls by a name; ValueError lists those of its kind that there are."""
    found = {k: v for k, v in vars(module).items() if kind(v)}
    if name not in found:
        mine = [k for k, v in found.items() if not inspect.isfunction(v) or v.__module__ == module.__name__]
        there = f"there is {', '.join(mine)}" if mine else "there is none"
        raise ValueError(f"{path}: no {what} {name!r}; {there}{did_you_mean(name, found)}")
    return found[name]


@dataclass(frozen=True)
class OwnLoss:
    """A function of a user's file as a loss."""

    name: str  # as RunConfig.loss has it
    function: Callable[..., Tensor] = field(repr=False)
    path: Path  # the file to name in errors
    parameters: tuple[str, ...]  # those that a RunConfig sets
    numbers: dict[str, float]  # their defaults

    def terms(self, logits: Tensor, labels: Tensor, **numbers: float) -> Tensor:
        """The loss of each element [N, K]; ValueError where the function fails or returns something else."""
        with told(self.path):
            terms = self.function(logits, labels, **numbers)
        is_tensor = isinstance(terms, Tensor)
        if not is_tensor or terms.shape != logits.shape or not terms.is_floating_point():
            got = f"{list(terms.shape)} of {terms.dtype}" if is_tensor else type(terms).__name__
            asked = f"the loss of each logit, {list(logits.shape)} of floats"
            raise ValueError(f"{self.path}: {self.name} returns {got}; it must return {asked}")
        return terms

    def __call__(self, logits: Tensor, labels: Tensor, dials: Dials) -> Tensor:
        """The sum over all anchors but IGNORED ones, a scalar in fp32: logits [B, A, K], labels [B, A]."""
        x = at_least_fp32(logits).flatten(0, 1)
        kept, known = labels.flatten() != IGNORED, Dials.of(dials.config)
        numbers = {name: getattr(known, name) for name in self.parameters}
        terms = self.terms(x, labels.flatten().clamp(min=BACKGROUND), **numbers)
        return torch.where(kept.unsqueeze(-1), at_least_fp32(terms), 0.0).sum()  # a sum of halves overflows


def adopt(spec: str) -> OwnLoss:
    """The loss of FILE.py:FUNCTION, its file copied to the data's folder. Errors: as `split_spec`,
    `module_of`; ValueError where there is no such function, or none that takes logits and labels."""
    path, name = split_spec(spec, "--loss")
    content = path.read_bytes()
    loss = _own(content, name, path)
    copy = data_root() / "losses" / f"{loss.name.partition('@')[2]}.py"
    if not copy.is_file() or copy.read_bytes() != content:
        write_atomic(copy, content)
    return loss


def load(name: str) -> OwnLoss:
    """The adopted loss of that name; ValueError where its copy is not there or was changed since."""
    function, _, digest = name.partition("@")
    path = data_root() / "losses" / f"{digest}.py"
    if not path.is_file():
        raise ValueError(f"{path}: the file of the loss {name} is not here; {MEND}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest()[:12] != digest:
        raise ValueError(f"{path}: changed since it was copied; {MEND}")
    return _own(content, function, path)


def _own(content: bytes, name: str, path: Path) -> OwnLoss:
    module = module_of(content, path)
    function = member(module, name, path, inspect.isfunction, "function")
    taken = list(inspect.signature(function).parameters.values())
    single = [p for p in taken if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(single) < 2:
        raise ValueError(f"{path}: {name} takes {len(single)} arguments; it must take logits and labels")
    for p in single[2:]:
        if p.name not in NUMBERS and p.default is p.empty:
            what = f"{name} wants {p.name!r}, which is none of {', '.join(NUMBERS)}"
            raise ValueError(f"{path}: {what}; give a default")
    known = {p.name: p.default for p in single[2:] if p.name in NUMBERS}
    with told(path):
        numbers = {k: float(v) for k, v in known.items() if v is not inspect.Parameter.empty}
    digest = hashlib.sha256(content).hexdigest()[:12]
    return OwnLoss(f"{name}@{digest}", function, path, tuple(known), numbers)


# ---- before it trains

EXTREME, CLASSES = 200.0, 3
TYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16}


def check(loss: OwnLoss, numbers: dict[str, float]) -> str:
    """One line on a loss that may train; ValueError on one that may not, with the logit at which it fails.

    It must be finite with its gradient at ±200, in three types, and have a gradient. The gradient is compared
    with finite differences in fp64, and the loss at γ = 0 with cross entropy. numbers: of its parameters.
    """
    extremes = torch.tensor(list(product((-EXTREME, EXTREME), repeat=CLASSES)))
    usual = 3 * torch.randn(24, CLASSES, generator=torch.Generator().manual_seed(0))
    x = torch.cat([extremes.repeat(CLASSES + 1, 1), usual])
    labels = torch.cat([torch.arange(-1, CLASSES).repeat_interleave(len(extremes)), torch.arange(24) % 4 - 1])
    for name, dtype in TYPES.items():
        _check_finite(loss, x.to(dtype), labels, numbers, name)
    x, labels = x[-24:].double().requires_grad_(), labels[-24:]
    terms = partial(loss.terms, labels=labels, **numbers)
    h, near = (1e-6, 1e-4) if terms(x).dtype == torch.float64 else (1e-2, 2e-2)
    less = {"raise_exception": False, "check_undefined_grad": False}
    right = torch.autograd.gradcheck(terms, x, eps=h, atol=near, rtol=near, **less)
    slope = "its gradient is that of finite differences"
    if not right:
        slope = slope.replace("is", "is NOT") + " (a detached part?), and is trained as it stands"
    x = x.detach()
    plain = f"; {_at_zero(loss, x, labels, numbers)}" if "gamma" in loss.parameters else ""
    return f"{loss.name}: finite at ±200 in {', '.join(TYPES)}; {slope}{plain}"


def _check_finite(loss: OwnLoss, x: Tensor, labels: Tensor, numbers: dict, kind: str) -> None:
    """ValueError where the loss or its gradient is not, or there is none."""
    x, given = x.clone().requires_grad_(), labels.clone()
    value = loss.terms(x, given, **numbers)
    if not given.equal(labels):
        raise ValueError(f"{loss.path}: {loss.name} changes the labels that it was given; let it clone them")
    if not value.requires_grad:
        cause = "it is made from the logits by detach, item, argmax or a comparison alone"
        raise ValueError(f"{loss.path}: {loss.name} is not differentiable: {cause}")
    with told(loss.path):
        (gradient,) = torch.autograd.grad(value.sum(), x)
    for what, tensor in (("", value), ("the gradient of ", gradient)):
        for row, k in (~torch.isfinite(tensor)).nonzero()[:1].tolist():
            at = f"the logit {x[row, k]:g} of class {k}, label {int(labels[row])}"
            raise ValueError(f"{loss.path}: {what}{loss.name} is {tensor[row, k]:g} at {at}, in {kind}")
    if not gradient.any():
        raise ValueError(f"{loss.path}: {loss.name} is not differentiable: its gradient is 0 everywhere")


def _at_zero(loss: OwnLoss, x: Tensor, labels: Tensor, numbers: dict[str, float]) -> str:
    """Whether the loss at γ = 0 is cross entropy, up to a weight for each kind of term."""
    is_object = is_class(labels, x)
    ratio = loss.terms(x, labels, **numbers | {"gamma": 0.0}) / F.softplus(torch.where(is_object, -x, x))
    weights = [ratio[kind] for kind in (is_object, ~is_object)]
    if any(float(w.max() - w.min()) > 1e-4 * float(w.abs().max()) for w in weights):
        return "at γ = 0 it is not cross entropy"
    a, b = (float(w.mean()) for w in weights)
    by = "" if abs(a - 1) + abs(b - 1) < 1e-4 else f" × {a:.3g} for objects, × {b:.3g} for background"
    return f"at γ = 0 it is cross entropy{by}"

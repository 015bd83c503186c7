"""A loss of one's own beside cross entropy and focal loss, and ablations in files of the user's.

The loss is searched over the rates of `ablations.toml`, on tune images with the search's seeds, and is then
judged at the best beside three losses at the profile's rates. Both ablations can be told from the records
alone, so that a page shows them where the loss's file is not.
"""

from collections.abc import Iterable
from dataclasses import replace

from focalrepro.config import RunConfig
from focalrepro.evaluation.record import Record
from focalrepro.study.ablations import SEARCH_SEED, Ablation
from focalrepro.study.rates import best_rate
from focalrepro.study.rows import LOSSES, RATES, Row
from focalrepro.training.dials import NUMBERS
from focalrepro.training.own_loss import OWN, member, module_of, split_spec, told

BESIDE = ("CE, α = .5", "CE, α = .75", "FL, γ = 2")
SEEDS = 2  # of the search, as results/PROTOCOL.md has it


def ablations_of(config: RunConfig) -> tuple[Ablation, Ablation]:
    """The search of rates and the comparison of a config's loss, which is one of the user's own."""
    changes = {"loss": config.loss} | {name: getattr(config, name) for name in NUMBERS}
    label, _, _ = config.loss.partition("@")
    name, source, given = f"own-{config.loss}", "a loss of one's own", f"--loss FILE.py:{label}"
    rates = tuple(Row(f"{label}, rate {rate:g}", {**changes, "lr": rate}) for rate in RATES)
    rows = (*(Row(name, LOSSES[name]) for name in BESIDE), Row(label, changes))
    searched = f"the learning rate of {label}, chosen on tune images"
    return (
        Ablation(f"{name}-lr", searched, source, rates, search=True, given=given, seeds=SEEDS),
        Ablation(name, f"{label} beside cross entropy and focal loss", source, rows, given=given),
    )


def of_records(records: Iterable[Record], base: RunConfig) -> dict[str, Ablation]:
    """The ablations of every own loss that was searched over a baseline, by name."""
    configs = {r.config.loss: r.config for r in _searches(records, base)}
    return {a.name: a for config in configs.values() for a in ablations_of(config)}


def rates_of(records: Iterable[Record], base: RunConfig) -> dict[str, float]:
    """The best rate of every own loss, by the newest training code that searched any over a baseline."""
    trials: dict[str, dict[float, list[Record]]] = {}
    searched = _searches(records, base)
    newest = max((r.training_version for r in searched), default=0)
    for r in searched:
        if r.training_version == newest:
            trials.setdefault(r.config.loss, {}).setdefault(r.config.lr, []).append(r)
    return {loss: best_rate(rates)[0] for loss, rates in trials.items()}


def _searches(records: Iterable[Record], base: RunConfig) -> list[Record]:
    searched = [r for r in records if r.seed >= SEARCH_SEED and OWN.fullmatch(r.config.loss)]
    return [r for r in searched if r.config.differences(base).keys() <= {"loss", "lr", "seed", *NUMBERS}]


def ablation_of(spec: str) -> Ablation:
    """The Ablation that a user's file has by that name, FILE.py:NAME.

    Errors: FileNotFoundError or ValueError that names the file, its line, or the name that it takes.
    """
    path, name = split_spec(spec, "--ablation")
    module = module_of(path.read_bytes(), path)
    found = member(module, name, path, lambda value: isinstance(value, Ablation), "Ablation")
    if not callable(found.rows):
        return found

    def rows(base: RunConfig) -> tuple[Row, ...]:
        with told(path):
            return tuple(made(base))

    made = found.rows
    return replace(found, rows=rows)

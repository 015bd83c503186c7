"""`focalrepro.Study`: what notebooks and people call."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from focalrepro.evidence import tables
from focalrepro.evidence.difference import Evidence
from focalrepro.show import own_comparison, sentences
from focalrepro.show import tables as show
from focalrepro.show.figures_results import figure_of
from focalrepro.study import study
from focalrepro.study.ablations import ABLATIONS
from focalrepro.study.own import ablation_of


class Study(study.Study):
    """A profile with its records, and what they say: tables, figures and claims of its ablations.

    >>> from focalrepro import Study
    >>> study = Study("quick").run("1b")  # trains what is missing
    >>> study.table("1b")[["row", "AP", "low", "high", "paper_AP"]]
    >>> study.figure("1b")
    >>> study.claims("1b")
    >>> study.grid(gammas=[0, 2], alphas=[0.25, 0.75])  # any other plane, trained where it is missing

    Arguments and errors: as `focalrepro.study.study.Study`.
    """

    @cached_property
    def evidence(self) -> Evidence:
        """Rows, intervals and differences of these records; made anew where `run` has trained some."""
        return Evidence(self)

    def _page(self, ablation: str) -> "Study":
        """The study on whose page an ablation is shown: the profile's `whole`, where this one has it all from
        there. An interval holds the spread of all of a page's runs, so only then is it the same on both."""
        p = self.profile
        left = bool(p.whole) and ablation not in p.ablations and ablation in ABLATIONS
        whole = left and not all(self.evidence.own.study.rows(ablation).values())
        return self.evidence.of_whole.study if whole else self

    def run_loss(self, spec: str, seeds: int = 0, device: str = "auto", workers: int = 0) -> Markdown:
        """A loss of one's own, FILE.py:FUNCTION, searched and trained beside cross entropy and focal loss:
        its table and a verdict. What there is already is not trained again.

        Errors: as `focalrepro.study.study.Study.train_loss`.
        """
        name = self.train_loss(spec, seeds, device, workers)
        rows = show.comparison(self.table(name)).to_dict("index").items()
        text = show.markdown({"loss": label} | row for label, row in rows)
        return Markdown(f"{text}\n\n{own_comparison.verdict(self.evidence, name)}")

    def table(self, ablation: str) -> pd.DataFrame:
        """One row per row of the ablation; columns as `focalrepro.evidence.tables.table`, AP in percent."""
        return tables.table(self._page(ablation).evidence, ablation)

    def comparison(self, ablation: str) -> pd.DataFrame | None:
        """`table` for the eye, beside the paper's numbers; None where fewer than two rows have runs."""
        return None if sentences.missing(self, ablation) else show.comparison(self.table(ablation))

    def gains(self, ablation: str, reference: str) -> pd.DataFrame | None:
        """Each row's AP less the reference row's, paired by image, beside the paper's difference;
        None where fewer than two rows have runs. Errors: ValueError for a reference that is no row."""
        page = self._page(ablation)
        return None if sentences.missing(self, ablation) else show.gains(page.evidence, ablation, reference)

    def figure(self, ablation: str, title: str | None = None) -> Figure | Markdown:
        """The ablation's figure, or a line that says how to make it where fewer than two rows have runs.

        title: its own, unless one is given.
        """
        if line := sentences.missing(self, ablation):
            return Markdown(line)
        page, title = self._page(ablation), sentences.title(ablation, self) if title is None else title
        return figure_of(page.evidence, ablation, title)

    def claims(self, *ablations: str) -> pd.DataFrame:
        """The claims that read one of these ablations (none: all) and have their runs, with verdicts.

        Errors: ValueError for an unknown ablation.
        """
        for name in ablations:
            self.ablation(name)
        rows = sentences.ledger(self.evidence, *ablations)
        return pd.DataFrame([{k: show.plain(v) for k, v in row.items()} for row in rows])

    def left_out(self, what: str, *needs: str) -> Markdown:
        """One line in place of what no record holds, with the command that makes the ablations it `needs`."""
        return Markdown(sentences.left_out(self, what, *needs))

    def takeaway(self, *ids: str) -> Markdown:
        """What these claims came to, in bold, from the records; ids as in evidence/claims.toml."""
        return Markdown(sentences.takeaway(self.evidence, *ids))

    def grid(self, gammas: Sequence[float], alphas: Sequence[float], seeds: int = 1) -> pd.DataFrame:
        """Mean AP in percent of the baseline at every γ (columns) and α (index), missing ones trained."""
        cells = self.cells(gammas, alphas, seeds)
        values = {key: tables.mean(r.AP for r in records) for key, records in cells.items()}
        frame = pd.Series(values).rename_axis(["gamma", "alpha"]).unstack("gamma")
        return frame.sort_index().sort_index(axis=1)


def run_own(
    loss: str, ablation: str, profile: str, reuse: Path | None, keep_weights: bool, how: dict[str, Any]
) -> str:
    """Trains what a user's file holds, a loss or an ablation (FILE.py:NAME), and says what came out."""
    study = Study(profile, reuse, keep_weights=keep_weights)
    if loss:
        return study.run_loss(loss, **how).data
    mine = ablation_of(ablation)
    return show.of_page(study.run(mine, **how).table(mine.name))

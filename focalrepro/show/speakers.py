"""Which profiles speak for each kind of data on the pages about all results, and what they say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from focalrepro.evidence.claims import judge_all
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.verdict import NOT_YET, Verdict
from focalrepro.show.sentences import WORDS, digits_of, effect, gap, levels, seeds_text
from focalrepro.show.tables import number
from focalrepro.study.study import Study

COCO, EMBEDDED = "coco-cpu", "full-quick"  # the profiles that speak
PLACES = {COCO: "real COCO", EMBEDDED: "the embedded data"}


class Verdicts(dict[str, Verdict]):
    """What a study says of each claim that was run. Templates ask by the claim's id, so that a sentence shows
    where its number is from."""

    def has(self, *claims: str) -> bool:
        """Whether all of these were run."""
        return all(c in self for c in claims)

    def judged(self, *claims: str) -> bool:
        """Whether each of these has its verdict by now."""
        return all(c in self and self[c].word in WORDS for c in claims)

    def confirmed(self, claim: str) -> bool:
        return claim in self and self[claim].word == "confirmed"

    def word(self, claim: str) -> str:
        """ "clearly better" and the like; else the verdict's own word; "" where it was not run."""
        return WORDS.get(self[claim].word, self[claim].word) if claim in self else ""

    def gap(self, claim: str) -> str:
        """The difference with its interval."""
        return gap(self[claim])

    def ahead(self, claim: str) -> str:
        """The difference without its interval."""
        return number(self[claim].value, digits_of(self[claim]))

    def effect(self, claim: str, remark: bool = False) -> str:
        """The same with its unit; remark: also what was picked."""
        return effect(self[claim] if remark else replace(self[claim], remark="", made_on=""))

    def levels(self, claim: str) -> str:
        """The AP of both sides."""
        return levels(self[claim])

    def seeds(self, claim: str) -> str:
        """How many, and of how many as long as these are too few."""
        v = self[claim]
        return f"{v.seeds} of {seeds_text(v.wanted)}" if v.word == NOT_YET else seeds_text(v.seeds)

    def made_on(self, claim: str) -> list[str]:
        """Of which machine its runs are, where they are not those of the other tables; else nothing."""
        return [self[claim].made_on] * bool(self[claim].made_on)


Judged = dict[str, Verdicts]  # by study


@dataclass(frozen=True)
class Speakers:
    """The committed studies that speak for each kind of data, by profile."""

    studies: dict[str, Evidence]

    @cached_property
    def judged(self) -> Judged:
        """What each says of each claim that was run; of those alone that judged one, or will once they have
        the seeds."""
        every = {
            name: Verdicts({c.id: v for c, v in judge_all(e) if v.word != "not run"})
            for name, e in self.studies.items()
        }
        words = {*WORDS, NOT_YET}
        return {name: of for name, of in every.items() if words & {v.word for v in of.values()}}

    @cached_property
    def sides(self) -> dict[str, Evidence]:
        """The studies of `judged`, by name."""
        return {name: self.studies[name] for name in self.judged}

    @cached_property
    def on(self) -> dict[str, str]:
        """The data of each of `judged`, as it stands in a sentence: "on real COCO"."""
        return {name: f"on {PLACES[name]}" for name in self.judged}

    def by_place(self, of: Mapping[str, Any], fact: Callable[[Any], Any]) -> dict[str, Any]:
        """What a fact has of each of `judged` or of `sides`, by `on`; without what is empty."""
        return {self.on[name]: found for name, one in of.items() if (found := fact(one))}

    def that_judged(self, *claims: str) -> dict[str, Verdicts]:
        """Those of `judged` that have a verdict on each of these claims, by `on`."""
        return self.by_place(self.judged, lambda of: of if of.judged(*claims) else None)

    def of(self, name: str) -> Verdicts:
        """Those of one study; empty where it judged nothing."""
        return self.judged.get(name, Verdicts())


def speakers() -> Speakers:
    """Those of the committed results."""
    return Speakers({name: Evidence(Study.committed(name)) for name in PLACES})

"""results/CLAIMS.md: what each profile says of each claim, question by question."""

from collections.abc import Mapping
from itertools import groupby

from focalrepro.evidence.claims import CLAIMS
from focalrepro.evidence.verdict import Verdict
from focalrepro.show.pages import render
from focalrepro.show.sentences import effect, seeds_text, sentence, verdict_word
from focalrepro.show.tables import NONE, Md, bold, markdown
from focalrepro.study.study import Study


def claims_page(judged: Mapping[str, Mapping[str, Verdict]]) -> str:
    """The page's text; judged: verdicts by the claim's id, by the profile's name."""
    pages = {name: Md(f"[`{name}`]({name}/README.md)") for name in judged}
    told = [c for c in CLAIMS.values() if any(c.id in verdicts for verdicts in judged.values())]
    studies, rows = [*map(Study.committed, judged)], []
    for question, claims in groupby(told, lambda claim: claim.question):
        rows.append({"claim": bold(question)} | dict.fromkeys(pages.values(), ""))
        for c in claims:
            found = {page: judged[name].get(c.id) for name, page in pages.items()}
            rows.append({"claim": sentence(c, *studies)} | {k: _cell(v) for k, v in found.items()})
    return render("claims.md.j2", verdicts=markdown(rows))


def _cell(v: Verdict | None) -> Md:
    if v is None:
        return NONE
    told = "; ".join(filter(None, (effect(v), seeds_text(v.seeds) if v.seeds else "")))
    return Md(f"{bold(verdict_word(v))}: {told}")

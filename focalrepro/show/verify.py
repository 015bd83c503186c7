"""`focalrepro verify`: where a committed page or CSV says something else than its records, cell by cell in
tables, else line by line; and what lies in a folder of results and does not belong there.
"""

import csv
import difflib
import re
from collections.abc import Iterator
from functools import cache

from focalrepro.config import TRAINING_VERSION, RunConfig
from focalrepro.evidence.claims import CLAIMS
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.made_twice import mixed
from focalrepro.evidence.tables import runs_frame
from focalrepro.runs import protocol_digest
from focalrepro.show.profile_page import executed, page
from focalrepro.show.sentences import takeaway
from focalrepro.study.store import Store
from focalrepro.study.study import Study

SAID = re.compile(r"- \*\*[A-Z][a-z, ]+: .*\(`([\w.-]+)`; ")  # a line of `takeaway`, with its profile
NAMES = ("ablation", "row", "seed", "claim")  # the columns that name a row, else the first does


def verify(profile: str) -> list[str]:
    """What the committed page and results.csv say otherwise than the committed records, and the files and
    records that do not belong to the results; nothing is written.

    Errors: FileNotFoundError where there is no page or no record to check; RunFileError for a damaged record.
    """
    study, how = Study.committed(profile), f"make them with focalrepro report --profile {profile}"
    readme, table = study.folder / "README.md", study.folder / "results.csv"
    if not readme.is_file() or not study.records:
        raise FileNotFoundError(f"{readme}: no committed results; {how}")
    off = strangers(study) + mixed(study)
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines() if table.is_file() else ())
    listed = {row.get("run_id") for row in rows} & {r.run_id for r in study.records}
    if listed and Store.local(profile).records():
        # A reproduction's pages show its own runs, which lie among those that it is compared with.
        study = Study(profile, records=[r for r in study.records if r.run_id in listed])
    elif listed:
        unlisted = [r.run_id for r in study.records if r.run_id not in listed]
        off += [f"runs/{i}.json: results.csv does not list it; {how}" for i in unlisted]
    text, figures = page(study)
    for path, right in {readme: text, table: runs_frame(study).to_csv(index=False)}.items():
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        off += differences(path.name, there, right)
    missing = [n for n in figures if not (study.folder / "figures" / f"{n}.png").is_file()]
    return off + [f"figures/{name}.png is missing" for name in missing] + behind(study)


def strangers(study: Study) -> list[str]:
    """A line for each file of a study's committed runs that no page should count, with its reason.

    A record of a row that no ablation has (a cell of a plane of one's own) belongs.
    """
    counted, rows = set[str](), set[RunConfig]()
    for name, ablation in study.ablations.items():
        counted |= {r.run_id for records in study.rows(name).values() for r in records}
        rows |= set(ablation.row_configs(study.base, study.rates).values())
    protocol, datasets = protocol_digest(), {study.base.dataset, *(row.dataset for row in rows)}
    strays = Store(study.folder / "runs").strays()
    off = [f"runs/{path.name}: no run has such a name; remove it" for path in strays]
    for r in study.records:
        version, dataset, why = r.training_version, r.config.dataset, []
        if version > TRAINING_VERSION:
            why.append(f"made by version {version} of the training code, which here is {TRAINING_VERSION}")
        if r.protocol != protocol:
            named, here = r.protocol or "none", protocol or "absent"
            why.append(f"made under protocol {named}, results/PROTOCOL.md is {here}")
        if dataset not in datasets:
            why.append(f"made on dataset {dataset}, this profile is of {', '.join(sorted(datasets))}")
        if r.row in rows and r.run_id not in counted:
            why.append(f"of version {version}; the tables take another record of its row in its place")
        off += [f"runs/{r.run_id}.json: {reason}" for reason in why]
    return off


def behind(study: Study) -> list[str]:
    """A line for each executed notebook that says another thing of a claim than the records do today.

    It was executed before the last of them, or of another profile's whose claims it shows.
    """

    @cache
    def right(profile: str) -> set[str]:
        judge = study if profile == study.name else Study.committed(profile)
        return set(takeaway(Evidence(judge), *CLAIMS).splitlines())

    off = []
    for path, cells in executed(study):
        outputs = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]
        lines = [line for o in outputs for line in o.get("data", {}).get("text/markdown", "").splitlines()]
        stale = [line for line in lines if (of := SAID.match(line)) and line not in right(of[1])]
        if stale:
            again = f"focalrepro notebooks {path.stem.split('_')[0]} --profile {study.name}"
            off.append(f"notebooks/{path.name}: not as the records have it: {stale[0]:.90} …; again: {again}")
    return off


def differences(name: str, there: str, right: str) -> list[str]:
    """What a file says, and what it should: "page says x, records say y" for each cell of a table's row.

    name: the file's, as its lines begin; a row is named by its heading and the cells of NAMES. Lines of no
    table, and such as have no counterpart, are named whole.
    """
    old, new = there.splitlines(), right.splitlines()
    parse = _csv_cells if name.endswith(".csv") else _markdown_cells
    theirs, ours = list(map(parse, old)), list(map(parse, new))
    off = []
    changes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for _, start, end, first, last in (change for change in changes if change[0] != "equal"):
        rows = list(zip(theirs[start:end], ours[first:last], strict=False))
        if end - start == last - first and all(a and len(a) == len(b) for a, b in rows):
            for i, (cells, _) in enumerate(rows, start=first):
                off += [f"{name}: {where}" for where in _cells(new, ours, i, cells)]
        else:
            off += [f"{name}: stands there: {line}" for line in old[start:end] if line.strip()]
            off += [f"{name}: should be: {line}" for line in new[first:last] if line.strip()]
    return off


def _cells(lines: list[str], tables: list[list[str]], index: int, there: list[str]) -> Iterator[str]:
    """The cells in which a row differs, each with its table's heading, row and column."""
    top = index
    while top > 0 and tables[top - 1]:
        top -= 1
    heading = next((line.lstrip("# ") + ", " for line in reversed(lines[:top]) if line.startswith("#")), "")
    head, right = tables[top], tables[index]
    row = [cell for column, cell in zip(head, right, strict=False) if column in NAMES] or right[:1]
    for column, a, b in zip(head, there, right, strict=False):
        if a != b:
            where = f"{heading}row {', '.join(row)!r}, {column!r}"
            yield f"{where}: page says {a or 'nothing'}, records say {b or 'nothing'}"


def _csv_cells(line: str) -> list[str]:
    return next(csv.reader([line]), [])


def _markdown_cells(line: str) -> list[str]:
    """The cells of a table's line; none of any other."""
    if not line.startswith("|"):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]

"""What lies in a folder of results and does not belong there: stray files, and records of other terms."""

from focalrepro.config import TRAINING_VERSION, RunConfig
from focalrepro.evaluation.record import SEALED, Record
from focalrepro.runs import protocol_digest
from focalrepro.study.store import Store
from focalrepro.study.study import Study


def strangers(study: Study) -> list[str]:
    """A line for each file of a study's committed runs that no page should count, with its reason.

    Stray files; records of newer training code, of another protocol or of another dataset; and those of a row
    in whose place the tables take another record, of a newer version or of other terms. A record of a row
    that no ablation has (a cell of a plane of one's own) belongs.
    """
    stray = [
        f"runs/{p.name}: no run has such a name; remove it" for p in Store(study.folder / "runs").strays()
    ]
    counted, rows = set[str](), set[RunConfig]()
    for name, ablation in study.ablations.items():
        counted |= {r.run_id for records in study.rows(name).values() for r in records}
        rows |= set(ablation.row_configs(study.base, study.rates).values())
    protocol, datasets = protocol_digest(), {study.base.dataset, *(row.dataset for row in rows)}
    return stray + [
        f"runs/{record.run_id}.json: {why}"
        for record in study.records
        for why in _reasons(record, datasets, protocol, record.row in rows and record.run_id not in counted)
    ]


def _reasons(record: Record, datasets: set[str], protocol: str, replaced: bool) -> list[str]:
    """Why a record does not belong to a study of these datasets and this protocol."""
    version, dataset, reasons = record.training_version, record.config.dataset, []
    if version > TRAINING_VERSION:
        reasons.append(f"made by version {version} of the training code, which here is {TRAINING_VERSION}")
    if version >= SEALED and record.protocol != protocol:
        named = record.protocol or "none"
        reasons.append(f"made under protocol {named}, results/PROTOCOL.md is {protocol or 'absent'}")
    if dataset not in datasets:
        reasons.append(f"made on dataset {dataset}, this profile is of {', '.join(sorted(datasets))}")
    if replaced:
        reasons.append(f"of version {version}; the tables take another record of its row in its place")
    return reasons

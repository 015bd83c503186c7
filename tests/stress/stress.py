"""The long form of the tests of harm: kills of a campaign, and spoiled inputs of each kind, from a seed.

    python tests/stress/stress.py --kills 50 --inputs 1000 --minutes 60 --out results/stress

Writes README.md and stress.json into --out; exits 1 where anything was lost. Linux only.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import inputs
import kills
import torch

from focalrepro import hardware
from focalrepro.data.synthetic import generate
from focalrepro.files import write_atomic, write_json

PAGE = """# Stress

What happens to campaigns that are killed and to inputs that are spoiled, from a seed: `make stress`.

| kind | tried | survived | lost |
|---|---|---|---|
{rows}

- **Kills** are `kill -9` at random moments of campaigns of {runs} runs by two workers
  ({killed}), flushing to the disk slowed down so that
  kills meet writing too. One survives where every file of the store is readable after it
  and no worker outlives the campaign; a campaign, where in the end it has every run and each equals that of an
  undisturbed one in all but its times.
- **Inputs** are right ones with random changes of bits, bytes, numbers, values and fields. One survives where the
  answer is a value within its bounds ({read})
  or one line that names the file (the others); a crash, another exception or more than {longest} s is a loss, and so
  is a changed record that is taken for a run's. Half of the records get the digest of their changed content.

Seed {seed}; {minutes:.0f} min at {hardware}; Python {python}, torch {torch}, commit {commit}.
{short}Raw: [stress.json](stress.json).

{lost}"""


def main() -> int:
    """Runs everything; the exit status."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=6, help="of each campaign that is killed")
    parser.add_argument("--inputs", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="about how long at most")
    parser.add_argument("--out", type=Path, default=Path("results/stress"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = stress(asked.kills, asked.runs, asked.inputs, asked.seed, asked.minutes * 60, Path(folder))
    write_json(asked.out / "stress.json", found)
    write_atomic(asked.out / "README.md", page(found))
    lost = [reason for entry in found["found"].values() for reason in entry["lost"]]
    print(f"wrote {asked.out / 'README.md'}; {len(lost) or 'nothing'} lost", *lost, sep="\n  ")
    return 1 if lost else 0


def stress(count: int, runs: int, each: int, seed: int, seconds: float, folder: Path) -> dict[str, Any]:
    """The JSON of the page: what was asked for, what was found by kind, and where."""
    warnings.simplefilter("ignore")  # images beyond bounds warn before they are refused
    logging.disable()
    started, cpu = time.monotonic(), hardware.describe("cpu")
    os.environ["FOCALREPRO_DATA"] = str(folder / "data")
    generate(folder / "data", train_images=24, val_images=12, size=128)
    of_inputs = {}
    for number, kind in enumerate(inputs.KINDS, 1):
        last = started + seconds * number / 2 / len(inputs.KINDS)  # kills have what is left, half or more
        of_inputs[kind] = inputs.read_all(kind, each, seed, folder / kind, last)
    killed, campaigns, what = [], [], Counter()
    for entry in kills.kills(count, runs, seed, folder / "kills", started + seconds):
        (killed if "killed" in entry else campaigns).append(entry)
        what[entry.get("killed")] += 1
    found = {"kills": _tally(killed), "killed campaigns": _tally(campaigns), **of_inputs}
    asked = {
        "kills": count,
        "runs of each campaign": runs,
        "inputs of each kind": each,
        "seed": seed,
        "seconds at most": seconds,
    }
    what.pop(None, None)
    took = round(time.monotonic() - started, 1)
    return {"asked": asked, "found": found, "killed": dict(what), "seconds": took, "hardware": cpu}


def _tally(entries: list[dict[str, Any]]) -> dict[str, Any]:
    lost = [f"{number}: {'; '.join(e['lost'])}" for number, e in enumerate(entries, 1) if e["lost"]]
    return {"tried": len(entries), "lost": lost}


def page(found: dict[str, Any]) -> str:
    """README.md of what `stress` found."""
    by_kind, asked, cpu = found["found"], found["asked"], found["hardware"]
    rows = [
        f"| {k} | {e['tried']} | {e['tried'] - len(e['lost'])} | {len(e['lost'])} |"
        for k, e in by_kind.items()
    ]
    wanted = {"kills": asked["kills"], **dict.fromkeys(inputs.KINDS, asked["inputs of each kind"])}
    fewer = [f"{k} ({n})" for k, n in wanted.items() if by_kind[k]["tried"] < n]
    lost = [f"- {kind}, {reason}" for kind, e in by_kind.items() for reason in e["lost"]]
    return PAGE.format(
        rows="\n".join(rows),
        runs=asked["runs of each campaign"],
        killed=", ".join(f"{n} × {what}" for what, n in sorted(found["killed"].items())) or "none",
        read=", ".join(f"{by_kind[k]['read']} × {k}" for k in inputs.KINDS),
        longest=inputs.LONGEST,
        seed=asked["seed"],
        minutes=found["seconds"] / 60,
        hardware=f"{cpu['cpu']}, {cpu['cores']} cores",
        short=f"Fewer than asked for, since the time was up: {', '.join(fewer)}. " if fewer else "",
        lost="\n".join(["## Lost", "", *lost, ""]) if lost else "Nothing was lost.\n",
        **{k: cpu[k] for k in ("python", "torch", "commit")},
    )


if __name__ == "__main__":
    sys.exit(main())

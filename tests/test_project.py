"""The files around the package: versions agree, the project speaks of itself alone."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import focalrepro
from focalrepro.evidence.claims import CLAIMS
from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import table
from focalrepro.show import sentences, tables
from focalrepro.study.study import Study

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+?)(?: ; (.+?))?(?: \\)?$")


def lock_pins():
    """name -> version of requirements.lock for Python 3.12."""
    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        found = PIN.match(line)
        if found and "< '3.12'" not in (found[3] or ""):
            pins[found[1]] = found[2]
    return pins


def conda_pins():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in content["dependencies"] if isinstance(d, dict)]
    return dict(line.split("==") for line in pip if "==" in line)


def test_environment_and_lock_say_the_same_versions():
    lock, conda = lock_pins(), conda_pins()
    assert conda == {name: lock[name] for name in conda}


def test_environment_and_lock_hold_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.match(r"[A-Za-z0-9-]+", line)[0] for line in wanted}
    assert names == set(conda_pins())
    assert names <= set(lock_pins())


def test_torch_and_torchvision_belong_together():
    assert (lock_pins()["torch"], lock_pins()["torchvision"]) == ("2.11.0", "0.26.0")


def test_every_pin_has_hashes_and_names_no_registry():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(blocks) > 50 and all("--hash=sha256:" in block for block in blocks)


def test_no_photo_and_no_weights_are_tracked_but_those_of_the_digits():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    kept_out = (".jpg", ".jpeg", ".tar", ".safetensors", ".pth", ".npy")
    own = "focalrepro/training/pretrained/"  # learned from scikit-learn's digits by pretrain.py
    assert {t for t in tracked if t.endswith(kept_out)} == {
        own + "small.safetensors",
        own + "small_deep.safetensors",
    }


def test_links_in_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    links = [x for x in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in x]
    assert links and not [x for x in links if not (ROOT / x).exists()]


def test_a_notebook_and_a_page_judge_from_the_same_records(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))  # no runs of one's own
    page, notebook = (Evidence(s) for s in (Study.committed("quick"), Study("quick")))
    assert len(notebook.study.records) > len(page.study.records), "a notebook shows full-quick's rows, too"
    assert sentences.ledger(notebook) == sentences.ledger(page)
    assert tables.comparison(table(notebook, "1b")).equals(tables.comparison(table(page, "1b")))


@pytest.mark.parametrize("profile", ["quick", "full-quick", "coco-cpu"])
def test_every_claim_can_be_said_of_the_committed_results(profile):
    study = focalrepro.Study.committed(profile)
    said = study.takeaway(*CLAIMS).data
    assert all(sentences.said(c, study) in said or c.sentence in said for c in CLAIMS.values())


def test_the_front_page_shows_what_the_committed_results_say():
    from focalrepro.show.front_page import readme_path, renewed

    page = renewed()
    assert "Table 1a" in page.evidence
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", "results"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if changed.returncode or changed.stdout:
        pytest.skip("results/ holds a reproduction of one's own, not the committed results")
    assert readme_path().read_text() == page.text
    for name, text in (("CLAIMS.md", page.claims), ("EVIDENCE.md", page.evidence)):
        assert (ROOT / "results" / name).read_text() == text

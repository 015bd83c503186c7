"""A study resolves profile, records and rows once, and trains only what is missing."""

import json
import shutil
from dataclasses import replace

import pytest
from made_up import record, runs

from focalrepro.config import TRAINING_VERSION
from focalrepro.runs import load_splits
from focalrepro.study import study as module
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES
from focalrepro.study.store import Store
from focalrepro.study.study import Study


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Empty folders for data and results."""
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path / "results"))


def put(store, records):
    for r in records:
        store.put(r)


def level(s):
    """AP of the study's best-known row."""
    return [round(r.AP) for r in s.rows("1b")[s.label("1b", gamma=2.0)]]


def test_the_local_store_comes_before_the_committed_results():
    assert Study("quick").records == []
    put(Store.committed("quick"), runs(lambda c: 30, profile="quick", seeds=1, seed_sd=0))
    assert level(Study("quick")) == [30] == level(Study.committed("quick"))
    put(Store.local("quick"), runs(lambda c: 20, profile="quick", seeds=1, seed_sd=0))
    assert level(Study("quick")) == [20] and level(Study.committed("quick")) == [30]


def test_a_registered_dataset_is_a_profile_of_its_own(data_root, tmp_path, monkeypatch):
    (tmp_path / "mine").symlink_to(data_root / "synthetic")
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    s = Study("mine")
    assert s.profile.own and s.base.dataset == "mine" == s.folder.name and s.base.classes == "all"
    put(Store.committed("mine"), [record(s.base.replace(gamma=2.0, alpha=0.25), 10.0)])
    assert level(Study("mine")) == [10]
    with pytest.raises(ValueError, match=r"no profile 'mime'; .* did you mean 'mine'"):
        Study("mime")


def test_what_is_left_to_the_whole_papers_profile_is_added():
    put(Store.committed("full-quick"), runs(lambda c: 30, ("1b", "1d"), 1, 0, profile="full-quick"))
    put(Store.local("quick"), runs(lambda c: 20, ("1b",), 1, 0, profile="quick"))
    s = Study("quick")
    assert level(s) == [20] and all(s.rows("1d")[label] for label in ("FL", "OHEM, batch 128, NMS 0.7"))


def test_committed_records_are_read_once_until_they_change(monkeypatch):
    put(Store.committed("quick"), runs(lambda c: 30, ("1b",), 1, 0, profile="quick"))
    assert level(Study.committed("quick")) == [30]
    monkeypatch.setattr(Store, "records", lambda self: 1 / 0)
    assert level(Study.committed("quick")) == [30]
    monkeypatch.undo()


def test_searches_and_judged_runs_are_kept_apart():
    base = PROFILES["coco-cpu"].base
    searched = [record(c, 5.0) for c in get_ablation("lr").configs(base, range(2)).values()]
    s = Study("coco-cpu", records=searched)
    assert all(len(found) == 2 for found in s.rows("lr").values())
    assert not any(s.rows("1b").values()), "a run of a search is in no table"


def test_unknown_names_are_told():
    for make, message in (
        (lambda: Study("quik"), "no profile 'quik'"),
        (lambda: Study("quick").rows("1z"), "no ablation '1z'"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(KeyError, match="no row with"):
        Study("quick").label("1b", gamma=7.0)


def test_only_what_is_missing_is_trained(monkeypatch):
    asked = []

    def train(missing, store, *more):
        asked.append(len(missing))
        put(store, [record(p.config, 25.0) for p in missing])
        return 0

    base = PROFILES["smoke"].base.replace(score_threshold=0.0)
    monkeypatch.setattr(module, "run_planned", train)
    monkeypatch.setattr(module, "get_profile", lambda name: replace(PROFILES[name], base=base))
    s = Study("smoke").run("1b", seeds=2)
    assert asked == [14] and level(s) == [25, 25]
    assert s.run("1b", seeds=2) is s and asked == [14], "nothing is missing"
    assert s.run("1a", "1b") is s and asked == [14, 6]
    assert {r.training_version for r in s.records} == {TRAINING_VERSION}
    put(Store.local("smoke"), runs(lambda c: 25, ("1b",), 3, 0, profile="smoke"))
    assert len(level(s)) == 2 and len(level(s.run("1b"))) == 3, "another process trained them"
    monkeypatch.setattr(module, "run_planned", lambda *_: 3)
    with pytest.raises(RuntimeError, match=r"3 runs failed; .*errors"):
        s.run("prior")


def test_of_mended_own_data_only_the_newest_state_counts(data_root, tmp_path, monkeypatch):
    (tmp_path / "mine").symlink_to(data_root / "synthetic")
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    config = Study("mine").base.replace(gamma=2.0, alpha=0.25)
    now = {"train": {"images": 1000, "digest": "c" * 64}, "val": {"images": 9, "digest": "b" * 64}}
    old = [record(config.replace(seed=seed), 10.0) for seed in (0, 1)]
    new = record(
        config, 20.0, data=now, run_id=config.run_id("c" * 64, "b" * 64), finished="2026-01-02T00:00:00Z"
    )
    put(Store.local("mine"), [*old, new])
    assert level(Study("mine")) == [20], "seed 1 is missing again"
    assert level(Study("mine", records=[*old, new])) == [20]


def test_labels_that_are_mended_in_one_process_are_read_again(data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    shutil.copytree(data_root / "synthetic", tmp_path / "mine")
    config = Study("mine").base.replace(image_size=64)
    before = load_splits(config)[0]
    path = tmp_path / "mine" / "annotations" / "instances_train.json"
    value = json.loads(path.read_text())
    value["annotations"] = value["annotations"][1:]
    path.write_text(json.dumps(value))
    after = load_splits(config)[0]
    assert after.digest != before.digest and after.pixels_digest == before.pixels_digest
    assert load_splits(config)[0] is after

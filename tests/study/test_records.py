"""Run records: what is taken for one, and what the store keeps."""

import json
import math
import os
from pathlib import Path

import pytest
from made_up import TRAIN, VAL, record, sealed, values_of

from focalrepro.config import RunConfig
from focalrepro.evaluation.record import Record, RunFileError
from focalrepro.study.store import Store

COMMITTED = sorted((Path(__file__).parents[2] / "results").glob("*/runs"))


def test_put_and_get(tmp_path):
    store = Store(tmp_path / "runs")
    first, second = record(), record(RunConfig(seed=1), status="diverged", ap=0.0)
    assert store.get(first.run_id) is None and store.records() == []
    store.put(first)
    store.put(second)
    assert store.get(first.run_id).as_json() == first.as_json()
    both = sorted([first, second], key=lambda r: r.run_id)
    assert [r.as_json() for r in store.records()] == [r.as_json() for r in both]
    assert {p.suffix for p in store.folder.iterdir()} == {".json"}, "nothing else stays behind"


def test_a_finished_run_clears_its_error(tmp_path):
    store = Store(tmp_path)
    done = record()
    store.put_error(done.run_id, "Traceback …")
    assert store.error_path(done.run_id).read_text() == "Traceback …"
    assert store.get(done.run_id) is None, "a failed run is not a finished one"
    store.put(done)
    assert not store.error_path(done.run_id).exists()


def without(key):
    return lambda r: {k: v for k, v in r.items() if k != key}


def within(key, **more):
    return lambda r: r | {key: r[key] | more}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r | {"run_id": "0" * 12}, "run_id is '000000000000'; config, data and version make it '"),
        (within("data", val={"images": 9, "digest": "c"}), "config, data and version make it '"),
        (lambda r: r | {"training_version": 4}, "config, data and version make it '"),
        (lambda r: r | {"digest": "0" * 16}, "the content is not that of its digest '0000"),
        (without("digest"), "the content is not that of its digest ''"),
        (within("metrics", AP=31.0), "the content is not that of its digest"),
        (lambda r: r | {"per_class": {"a": 30.0, "b": 31.0}}, "AP is 30, the mean of per_class 30.5"),
        (lambda r: r | {"status": "running"}, "status is 'running'"),
        (without("metrics"), "metrics is missing; add the field"),
        (without("config"), "config is missing"),
        (without("data"), "data is missing"),
        (within("config", gama=1), "config is .*gama; did you mean 'gamma'"),
        (within("config", gamma="2"), "config is .*RunConfig.gamma is '2'"),
        (lambda r: [r], "valid dictionary"),
        (without("bootstrap"), "bootstrap is missing"),
        (lambda r: r | {"bootstrap": {}}, r"bootstrap\.AP is missing"),
        (within("bootstrap", AP=[]), r"bootstrap\.AP is \[\]; .* at least 1 item"),
        (within("bootstrap", AP=3.0), r"bootstrap\.AP is 3\.0; it should be a valid list"),
        *((within("bootstrap", AP=v), r"bootstrap\.AP\[0\] is .* valid number") for v in (["x"], [True])),
        (within("bootstrap", AP=[1.0, math.nan]), r"bootstrap\.AP\[1\] is nan; it should be a finite"),
        (within("bootstrap", AP=[1.0, 101.0]), r"bootstrap\.AP\[1\] is 101\.0; .* less than or equal to 100"),
        (lambda r: r | {"metrics": []}, r"metrics is \[\]; it should be a valid dictionary"),
        (lambda r: r | {"metrics": {"AP50": 1.0}}, r"metrics\.AP is missing"),
        *(
            (within("metrics", AP=wrong), r"metrics\.AP is .*number")
            for wrong in ("high", True, [30.0], math.inf)
        ),
        *((within("metrics", AP=wrong), r"metrics\.AP is .*than or equal") for wrong in (-5.0, 1e308, 100.1)),
        (within("metrics", AP50="high"), r"metrics\.AP50 is 'high'; it should be a valid number"),
        (lambda r: r | {"seconds": {"total": None}}, r"seconds\.total is None; it should be a valid number"),
        (lambda r: r | {"seconds": 12.5}, r"seconds is 12\.5; it should be a valid dictionary"),
        (lambda r: r | {"hardware": {"device": "cpu"}}, r"hardware\.cpu is missing"),
        (lambda r: r | {"config": [1]}, r"config is \[1\]; it should be an object"),
        (
            lambda r: r | {"scores": {"tune": {"right": [-1], "wrong": [0]}}},
            r"scores\.tune\.right\[0\] is -1",
        ),
    ],
)
def test_a_file_that_is_no_record_is_named(tmp_path, change, message):
    store, good = Store(tmp_path), values_of()
    path = store.path(good["run_id"])
    path.write_text(json.dumps(change(good)))
    for read in (lambda: store.get(good["run_id"]), store.records):
        with pytest.raises(RunFileError, match=message) as caught:
            read()
        told = str(caught.value)
        assert str(path) in told and "delete the file" in told and "\n" not in told


def test_a_record_in_the_file_of_another_run_is_named(tmp_path):
    path = Store(tmp_path).path("0" * 12)
    path.write_text(json.dumps(values_of()))
    with pytest.raises(RunFileError, match="the file name says '000000000000'"):
        Store(tmp_path).get("0" * 12)


def test_a_word_that_is_changed_by_hand_is_found(tmp_path):
    store, whole = Store(tmp_path), record()
    store.put(whole, reused=True)  # how it came to the store is no content
    assert store.get(whole.run_id).reused
    text = store.path(whole.run_id).read_text().replace('"cpu": "a processor"', '"cpu": "another"')
    store.path(whole.run_id).write_text(text)
    with pytest.raises(RunFileError, match="not that of its digest"):
        store.get(whole.run_id)


def test_a_stray_file_is_named_and_left_out(tmp_path, capsys):
    store, whole = Store(tmp_path), record()
    store.put(whole)
    for name in (f"{whole.run_id} (1).json", "._x.json"):
        (tmp_path / name).write_text("{")
    assert [r.run_id for r in store.records()] == [whole.run_id]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "._x.json: no run has such a name; left out" in said[0]
    assert [path.name for path in store.strays()] == ["._x.json", f"{whole.run_id} (1).json"]


def test_ap_of_the_test_images_at_05_and_of_the_tune_images_are_three_numbers():
    r = record(ap=30.0, at_05={"AP": 20.0}, tune={"AP": 10.0})
    assert (r.AP, r.AP_at_05, r.tune_AP) == (30.0, 20.0, 10.0)


def test_a_record_of_training_code_that_measured_otherwise_is_refused(tmp_path):
    path = Store(tmp_path).path(RunConfig().run_id(TRAIN, VAL, 2))
    path.write_text(json.dumps(values_of(version=2)))
    with pytest.raises(RunFileError, match=f"{path}: training_version .*; or delete the file"):
        Store(tmp_path).get(path.stem)


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.parent.name)
def test_committed_records_are_whole_and_keep_their_ids(folder):
    records = Store(folder).records()
    assert records and all(r.AP >= 0 for r in records)


def test_what_may_be_null_or_absent(tmp_path):
    """An AP without any object is null; fields that came later are not in older records."""
    store = Store(tmp_path)
    nothing = {key: [None, None] for key in ("AP", "AP50", "AP_at_05")}
    without = {"bootstrap": nothing, "metrics": {"AP": None}}
    values = sealed(values_of() | without, {"later": 1})
    store.put(Record.model_validate(values))
    (kept,) = store.records()
    assert kept.as_json() == values and math.isnan(kept.AP) and math.isnan(kept.bootstrap.AP[0])


@pytest.mark.parametrize("keep", [0, 1, 40, -3])
def test_half_a_file_is_no_record(tmp_path, keep):
    store, good = Store(tmp_path), record()
    store.put(good)
    path = store.path(good.run_id)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunFileError, match=f"{path.name}: not readable as JSON"):
        store.get(good.run_id)


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_record(tmp_path, monkeypatch, where):
    store, old = Store(tmp_path), record(ap=30.0)
    store.put(old)

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(*((os, "fsync") if where == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="disk is full"):
        store.put(record(ap=31.0))
    with pytest.raises(OSError, match="disk is full"):
        store.put(record(RunConfig(seed=1)))
    monkeypatch.undo()
    assert [r.AP for r in store.records()] == [30.0]
    assert [p.name for p in tmp_path.iterdir()] == [f"{old.run_id}.json"], "no partial file stays behind"


def test_only_one_process_trains_into_a_store(tmp_path):
    with Store(tmp_path).lock():
        with (
            pytest.raises(RuntimeError, match=f"another process writes into {tmp_path}"),
            Store(tmp_path).lock(),
        ):
            pass
        with Store(tmp_path / "other").lock():
            pass
    with Store(tmp_path).lock():
        assert Store(tmp_path).records() == []

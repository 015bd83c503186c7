"""`ensure` and `focalrepro data`: what a reproduction fetches by itself, and what it asks before."""

import json
import re
import shutil
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from safetensors.numpy import save_file

from focalrepro import runs
from focalrepro.data import DatasetError, coco, prepare, synthetic, weights_path
from focalrepro.data.coco import annotations_file, finish
from focalrepro.data.prepare import ensure, ensure_weights, prepare_dataset
from focalrepro.data.registry import DESCRIPTOR, describe, prepared
from focalrepro.data.weights import WEIGHTS
from focalrepro.files import refusal
from focalrepro.study.profiles import PROFILES


@pytest.fixture
def splits(data_root):
    """Annotations and images of the embedded dataset's two splits, to register as one's own."""
    source = data_root / "synthetic"
    names = [(f"annotations/instances_{split}.json", f"{split}.tar") for split in ("train", "val")]
    return [part for path, tar in names for part in (source / path, (source / tar,))]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root, and in place of the network two functions that put down what it would have brought."""
    root = tmp_path / "data"
    monkeypatch.setenv("FOCALREPRO_DATA", str(root))
    monkeypatch.delenv("YES", raising=False)
    fetched = []

    def weights(folder):
        fetched.append("weights")
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"conv0_weight": np.ones(3, np.float32)}, folder / WEIGHTS)
        return folder / WEIGHTS

    def images(root):
        if not (root / "coco256" / DESCRIPTOR).is_file():
            fetched.append("images")
            finish(root / "coco256", "coco256")
        return root / "coco256"

    monkeypatch.setattr(prepare, "fetch_weights", weights)
    monkeypatch.setattr(coco, "download_coco256", images)
    return root, fetched


def test_a_fresh_machine_gets_images_and_weights_by_itself(root, monkeypatch):
    root, fetched = root
    monkeypatch.setenv("YES", "1")
    ensure("coco256")
    assert fetched == ["weights", "images"]
    assert weights_path("coco256", "resnet50v2").is_file()
    ensure("coco256")
    assert fetched == ["weights", "images"]
    (root / "weights" / WEIGHTS).rename(root / "w.safetensors")
    value = json.loads((root / "coco256" / DESCRIPTOR).read_text())
    (root / "coco256" / DESCRIPTOR).write_text(json.dumps({**value, "weights": {}}))
    ensure("coco256")  # as after an import without weights
    assert fetched == ["weights", "images", "weights"] and weights_path("coco256", "resnet50v2").is_file()
    (root / "weights" / WEIGHTS).unlink()
    ensure("coco256")
    assert fetched[3:] == ["weights"] and weights_path("coco256", "resnet50v2").is_file()


def test_nobody_there_means_no_download(root, monkeypatch):
    _, fetched = root
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DatasetError, match=r"1,755 MB .*nobody is here.* set YES=1 .*coco256 --from PATH$"):
        ensure("coco256")
    assert fetched == []


@pytest.mark.parametrize(("answer", "fetches"), [("y", True), ("Yes", True), ("", False), ("n", False)])
def test_somebody_is_asked(root, monkeypatch, answer, fetches):
    _, fetched = root
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)}))
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: (asked.append(question), answer)[1])
    if fetches:
        ensure("coco256")
    else:
        with pytest.raises(DatasetError, match="not fetched; set YES=1"):
            ensure("coco256")
    assert bool(fetched) == fetches and len(asked) == 1 and "1,755 MB" in asked[0]


def test_given_weights_are_not_fetched(root, monkeypatch, tmp_path, capsys):
    root, fetched = root
    monkeypatch.setenv("YES", "1")
    given = tmp_path / "mine.safetensors"
    save_file({"conv0_weight": np.zeros(2, np.float32)}, given)
    assert prepare_dataset("coco256", weights=given) == 0
    assert fetched == ["images"] and capsys.readouterr().out == f"ready: {root / 'coco256'}\n"
    assert weights_path("coco256", "resnet50v2").read_bytes() == given.read_bytes()


def test_ones_own_data_may_bring_weights_and_is_never_told_to_download_coco(splits, root, tmp_path):
    prepare_dataset("register", None, None, "mine", *splits)
    mend = r"weights for 'resnet50v2'.*--name mine … --weights FILE, or --weights resnet50v2"
    with pytest.raises(DatasetError, match=mend) as caught:
        weights_path("mine", "resnet50v2")
    assert "coco256" not in str(caught.value)
    with pytest.raises(DatasetError, match="no such weights file"):
        prepare_dataset("register", None, tmp_path / "no", "mine", *splits)
    given = tmp_path / "w.safetensors"
    save_file({"conv0_weight": np.zeros(2, np.float32)}, given)
    prepare_dataset("register", None, given, "mine", *splits)
    assert weights_path("mine", "resnet50v2") == given
    (folder := root[0] / "runs" / "mine").mkdir(parents=True)
    (folder / "a run.json").touch()
    other = given.rename(tmp_path / "other.safetensors")
    shutil.copy(other, given)
    prepare_dataset("register", None, None, "mine", *splits)
    assert weights_path("mine", "resnet50v2") == given, "as before"
    with pytest.raises(DatasetError, match=f"{folder} has runs that began with other weights than {other}"):
        prepare_dataset("register", None, other, "mine", *splits)


def test_given_weights_that_are_gone_are_named_and_not_fetched(splits, root, tmp_path, monkeypatch):
    monkeypatch.setenv("YES", "1")
    given = tmp_path / "w.safetensors"
    save_file({"conv0_weight": np.zeros(2, np.float32)}, given)
    prepare_dataset("register", None, given, "mine", *splits)
    given.unlink()
    ensure_weights("mine", "resnet50v2")
    with pytest.raises(DatasetError, match=f"{given}: the weights are gone"):
        weights_path("mine", "resnet50v2")
    assert root[1] == []


def test_the_weights_that_runs_began_with_may_be_given_by_their_file(splits, root, monkeypatch):
    monkeypatch.setenv("YES", "1")
    prepare_dataset("register", None, None, "mine", *splits)
    ensure_weights("mine", "resnet50v2")
    (folder := root[0] / "runs" / "mine").mkdir(parents=True)
    (folder / "a run.json").touch()
    prepare_dataset("register", None, root[0] / "weights" / WEIGHTS, "mine", *splits)
    assert describe("mine").weights == {"resnet50v2": str(root[0] / "weights" / WEIGHTS)}
    assert root[1] == ["weights"]


def test_what_register_lacks_is_named(root):
    with pytest.raises(DatasetError, match=r"needs --name and --train-annotations$"):
        prepare_dataset("register", None, None, "mine", None, (), None, ())


def test_no_option_is_passed_over(root, tmp_path):
    with pytest.raises(DatasetError, match=rf"--from {tmp_path} is of coco and coco256; leave it out"):
        prepare_dataset("register", tmp_path, None, "mine", tmp_path / "a.json", (), None, ())
    for name, file in (("mine", None), ("", tmp_path / "a.json")):
        with pytest.raises(DatasetError, match="belong to register, not to 'synthetic'; leave them out"):
            prepare_dataset("synthetic", None, None, name, file, (), None, ())
    assert not (root[0] / "synthetic").exists()


@pytest.mark.parametrize(("asked", "hint"), [("mien", "did you mean 'mine'"), ("zzz", "; to register")])
def test_ones_own_data_is_never_answered_with_cocos_download(root, asked, hint):
    root, fetched = root
    part = {"annotations": "a.json", "images": ["i"]}
    (root / "mine").mkdir(parents=True)
    (root / "mine" / DESCRIPTOR).write_text(json.dumps({"train": part, "val": part}))
    with pytest.raises(
        DatasetError, match=rf"{hint}.* run: focalrepro data register --name {asked}"
    ) as caught:
        ensure(asked)
    assert "coco256" not in str(caught.value) and fetched == []


def test_the_weights_alone_can_be_fetched_for_ones_own_data(splits, root, monkeypatch):
    _, fetched = root
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(
        DatasetError, match=r"its weights are 102 MB .* or give their file with --weights FILE$"
    ):
        prepare_dataset("register", None, Path("resnet50v2"), "mine", *splits)
    monkeypatch.setenv("YES", "1")
    for name in ("mine", "other"):  # fetched once
        prepare_dataset("register", None, Path("resnet50v2"), name, *splits)
        assert fetched == ["weights"] and weights_path(name, "resnet50v2").is_file()


def test_what_the_system_refuses_can_be_told_in_one_line(root, monkeypatch):
    root, _ = root
    Path(root.parent / "file").write_text("")
    monkeypatch.setenv("FOCALREPRO_DATA", str(root.parent / "file" / "data"))
    with pytest.raises(OSError, match="Not a directory") as caught:
        ensure("synthetic")
    assert re.search(r"file.*: Not a directory; check the path and its permissions$", refusal(caught.value))


def test_the_layout_is_that_of_a_copy():
    assert annotations_file("val2017") == "annotations/instances_val2017.json"


def test_what_is_drawn_is_made_when_it_is_read(tmp_path, monkeypatch):
    """As on a fresh clone, where a notebook reads data that nobody has made; one of other sizes stays."""
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    monkeypatch.setattr(synthetic, "SIZES", {"train_images": 3, "val_images": 2, "size": 128})
    config = PROFILES["smoke"].base.replace(train_images=0, val_images=0)
    assert [len(part) for part in runs.load_splits(config)] == [3, 2]
    monkeypatch.undo()
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    prepare.draw_if_absent("synthetic", tmp_path)
    prepare.draw_if_absent("coco256", tmp_path)
    assert describe("synthetic", tmp_path).parameters["train_images"] == 3
    assert prepared(tmp_path) == ["synthetic"]


def test_scenes_that_are_shared_stay_as_they_are(tmp_path):
    synthetic.generate(tmp_path, "synthetic-1000", train_images=3, val_images=2)
    prepare.draw_if_absent("synthetic-100", tmp_path)
    for name in ("synthetic-1000", "synthetic-100"):
        made = describe(name, tmp_path).parameters
        assert (made["train_images"], made["val_images"]) == (3, 2)


def test_weights_can_be_given_to_any_built_in_dataset_and_a_copy_to_none_that_is_drawn(root, tmp_path):
    root, _ = root
    given = tmp_path / "mine.safetensors"
    with pytest.raises(DatasetError, match="no such weights file"):
        prepare_dataset("synthetic", weights=given)
    assert not (root / "synthetic").exists()
    save_file({"conv0_weight": np.zeros(2, np.float32)}, given)
    with pytest.raises(DatasetError, match=r"weights for 'resnet50v2'; run: focalrepro data coco --weights"):
        (root / "coco").mkdir(parents=True)
        part = {"annotations": "a.json", "images": ["i"]}
        (root / "coco" / DESCRIPTOR).write_text(json.dumps({"train": part, "val": part}))
        weights_path("coco", "resnet50v2")
    prepare_dataset("coco", weights=given)
    assert weights_path("coco", "resnet50v2") == given
    with pytest.raises(DatasetError, match=rf"'synthetic' is drawn .*; leave out --from {tmp_path}"):
        prepare_dataset("synthetic", tmp_path)


def test_of_two_downloads_at_once_one_waits(tmp_path, monkeypatch, capsys):
    """Else both would write one file, and each remove what the other has."""
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    monkeypatch.setenv("YES", "1")
    inside, most = [], []

    def slowly(root):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.2)
        inside.pop()
        return root

    monkeypatch.setattr(prepare.coco, "download_coco", slowly)
    both = [Thread(target=prepare._get, args=("coco",)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert most == [1, 1] and "another process fetches coco: waiting for it" in capsys.readouterr().err

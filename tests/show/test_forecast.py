"""Own data before its training: what is printed of it, what it will take, and who is asked."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from focalrepro import cli
from focalrepro.data import DatasetError, load, pixels, prepare
from focalrepro.data.own import register_own
from focalrepro.data.registry import describe
from focalrepro.show import forecast
from focalrepro.show.forecast import agreed, take, what_is_there, what_it_takes
from focalrepro.study.profiles import get_profile
from focalrepro.study.store import Store

RECIPE = "backbone=small weights=none frozen=nothing views=1 kept_channels=1 steps=2 warmup=1 batch_size=2 "
RECIPE += "image_size=64 fpn_channels=16 first_level=2 last_level=4"
CPU = torch.device("cpu")
SQUARE, SPECK = [8, 8, 24, 24], [100, 40, 1, 1]


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A COCO file of ten pictures of 128 × 64, and their folder: in each a square, in two a speck besides."""
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path / "results"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    images, boxes = [], []
    for n in range(10):
        pixels = np.full((64, 128, 3), 90, np.uint8)
        for x, y, w, h in [SQUARE, SPECK][: 1 + (n < 2)]:
            pixels[y : y + h, x : x + w] = 250
            kind = 1 + (w == 1)
            boxes.append({"id": len(boxes), "image_id": n, "category_id": kind, "bbox": [x, y, w, h]})
        Image.fromarray(pixels).save(folder / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "width": 128, "height": 64})
    names = [{"id": 1, "name": "square"}, {"id": 2, "name": "speck"}]
    file = tmp_path / "all.json"
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": names}))
    return file, folder


def taken(given, *more):
    take("mine", given[0], [given[1]], {}, [*RECIPE.split(), *more])
    return get_profile("mine")


def test_what_is_there(given):
    profile = taken(given)
    assert profile.own and profile.base.resize == "letterbox" and profile.base.steps == 2
    text = "\n".join(what_is_there(profile.base))
    assert "images: 8 to train on, 2 to validate on; 128 … 128 × 64 … 64 pixels, letterbox to 64²" in text
    specks = sum("speck" in word for word in text.split())
    assert specks == 1 and "square 8" in text
    assert "of the 64 (of 5, 50, 95 %)" in text and " 12 … 12 pixels" in text
    reached = 100 * 8 / int(text.split("objects: ")[1].split()[0])
    assert f"out of reach: {100 - reached:.1f} % of the objects, whose IoU is below 0.4" in text


def labelled_only(given, wanted):
    value = json.loads(given[0].read_text())
    value["annotations"] = [a for a in value["annotations"] if wanted(a["image_id"])]
    given[0].write_text(json.dumps(value))


def test_background_at_the_beginning_is_no_fault(given, monkeypatch):
    monkeypatch.setattr(forecast, "FIRST", 2)
    labelled_only(given, lambda image: image > 5)
    assert " 12 … 12 pixels" in "\n".join(what_is_there(taken(given).base))


@pytest.mark.parametrize(("split", "count"), [("train", 8), ("val", 2)])
def test_a_split_without_any_object_is_refused_before_anything_is_trained(given, split, count):
    base = taken(given).base
    empty = set(load("mine", split, 64).image_ids.tolist())
    labelled_only(given, lambda image: image not in empty)
    taken(given)
    kind = {"train": "training", "val": "validation"}[split]
    with pytest.raises(ValueError, match=f"mine: {count} {kind} images without an object; label some"):
        list(what_is_there(base))


def test_a_misspelt_ablation_is_told_before_anything_is_written(given):
    with pytest.raises(ValueError, match="1bb"):
        take("mine", given[0], [given[1]], {}, RECIPE.split(), ("1bb",))
    assert not (given[0].parent / "data" / "mine").exists()


@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_what_it_takes_is_measured(given, detector):
    profile = taken(given, f"detector={detector}")
    said = list(what_it_takes(profile.base, 7, CPU))
    assert said[0] == "measuring on 8 images what 7 runs will take"
    assert "7 runs of" in said[1] and said[3].startswith("  memory: about") and "are free" in said[4]


def test_asked_again_it_times_decoding_again(given, monkeypatch):
    profile, decoded, decode = taken(given), [], pixels.decode
    monkeypatch.setattr(pixels, "decode", lambda *more: decoded.append(more[2]) or decode(*more))
    for _ in range(2):  # the second finds all in the cache
        list(what_it_takes(profile.base, 7, CPU))
    before = len(decoded)
    list(what_it_takes(profile.base, 7, CPU))
    assert len(decoded) - before == 8 + 2, "of training and of validation"
    assert not list((given[0].parent / "data").glob("tmp*"))


def test_a_disk_without_room_is_told_before_anything_starts(given, monkeypatch):
    profile = taken(given)
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ValueError, match=r"no room for .* GB; free some disk"):
        list(what_it_takes(profile.base, 7, CPU))


@pytest.fixture
def asked(monkeypatch):
    """Answers for a terminal, and what it was asked."""
    monkeypatch.delenv("YES", raising=False)
    monkeypatch.setattr(forecast, "what_it_takes", lambda *_: ["it takes long"])
    found = SimpleNamespace(answer="", questions=[])
    monkeypatch.setattr("builtins.input", lambda text: (found.questions.append(text), found.answer)[1])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    return found


@pytest.mark.parametrize(("answer", "goes_on"), [("", True), ("y", True), ("n", False), ("No", False)])
def test_somebody_is_asked(given, asked, capsys, answer, goes_on):
    asked.answer = answer
    assert agreed(taken(given), ("1b",), 1, CPU) == goes_on
    assert asked.questions == ["Start? [Y/n] "] and "it takes long" in capsys.readouterr().out


def test_the_end_of_the_input_is_no(given, asked, monkeypatch):
    def ended(_):
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    assert not agreed(taken(given), ("1b",), 1, CPU)
    with pytest.raises(DatasetError, match="not fetched; set YES=1"):
        prepare.agree("its", ["weights"], "give it")


@pytest.mark.parametrize("why", ["YES", "nobody", "a pipe"])
def test_nobody_is_asked(given, asked, monkeypatch, capsys, why):
    if why == "YES":
        monkeypatch.setenv("YES", "1")
    else:
        there = None if why == "nobody" else SimpleNamespace(isatty=lambda: False)
        monkeypatch.setattr("sys.stdin", there)
    assert agreed(taken(given), ("1b",), 1, CPU)
    assert asked.questions == [] and "it takes long" in capsys.readouterr().out


def focalrepro(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["focalrepro", *map(str, args)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


def test_one_command_from_a_file_to_a_page(given, asked, monkeypatch, capsys, tmp_path):
    """Everything but the notebooks, whose execution test_reproduce.py has."""
    monkeypatch.setattr("focalrepro.show.notebooks.execute_all", lambda profile: [])
    command = ["reproduce", "1d", "--data", given[0], "--images", given[1], "--seeds", 1, "--device", "cpu"]
    command += ["--recipe", *RECIPE.split()]
    assert focalrepro(monkeypatch, *command) == 0
    said = capsys.readouterr().out
    assert said.index("out of reach") < said.index("it takes long") < said.index("Done in")
    page = (tmp_path / "results" / "mine" / "README.md").read_text()
    assert "Your own data, mine: letterbox at 64²" in page
    assert (tmp_path / "results" / "mine" / "results.csv").is_file()
    assert all(r.config.resize == "letterbox" for r in Store.local("mine").records())
    assert focalrepro(monkeypatch, "verify", "--profile", "mine") == 0
    assert focalrepro(monkeypatch, "status", "1d", "--profile", "mine") == 0
    assert "all" in capsys.readouterr().out.splitlines()[-1]
    assert focalrepro(monkeypatch, *command) == 0 and len(asked.questions) == 1, "nothing is missing now"


def test_wrong_input_is_told_before_anything_is_written(given, told, tmp_path):
    file, folder = given
    own = ["--data", str(file), "--images", str(folder)]
    for args, said in (
        (["--images", str(folder)], "--name, --weights and --recipe belong to --data, which is not given"),
        (["--name", "birds"], "--name, --weights and --recipe belong to --data, which is not given"),
        ([*own, "--profile", "coco-cpu"], "of its own, so leave out --profile coco-cpu"),
        ([*own, "--val-images", str(folder)], "images for validation are given without their annotations"),
        ([*own, "--name", "synthetic-a"], "'synthetic-a' cannot be a dataset's name"),
        ([*own, "--name", "quick"], "--name is 'quick', which is a profile already"),
        ([*own, "--name", "a/b"], "'a/b' cannot be a dataset's name"),
        ([*own, "--recipe", "steps"], "--recipe is 'steps'; it must be FIELD=VALUE"),
        ([*own, "--recipe", "step=5"], "RunConfig has no field step; did you mean 'steps'?"),
        ([*own, "--recipe", "resize=crop"], "RunConfig.resize is 'crop'; it must be one of squash, l"),
        (["--data", str(tmp_path / "no.json"), "--images", str(folder)], "no.json: no such annotation file"),
    ):
        assert said in told("reproduce", *args)
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").glob("*/dataset.json"))


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        *(("lr", ".002", 0.002), ("flip", "True", True), ("flip", "false", False), ("steps", "1e3", 1000)),
        *(("lr", "1", 1), ("lr", "1e0", 1.0), ("resize", "squash", "squash"), ("steps", "1.5", 1.5)),
    ],
)
def test_a_recipe_is_read_as_people_write_it(field, text, value):
    found = forecast._value(field, text)
    assert found == value and type(found) is type(value)


def test_the_recipe_stays_with_the_name_and_is_told(given, capsys):
    taken(given, "resize=squash", "lr=0.001")
    profile = get_profile("mine")
    assert (profile.base.resize, profile.base.lr, profile.rates) == ("squash", 0.001, {})
    assert describe("mine").parameters["recipe"]["resize"] == "squash"
    register_own("mine", given[0], [given[1]])
    assert describe("mine").parameters["recipe"]["resize"] == "squash", "registered again without one"
    capsys.readouterr()
    take("mine", given[0], [given[1]], {}, [])
    assert get_profile("mine").base == profile.base, "reproduced again without one"
    told = capsys.readouterr().out
    assert told.startswith("mine keeps the recipe that it was given before: ")
    assert "resize=squash lr=0.001 (--recipe with others replaces it)" in told

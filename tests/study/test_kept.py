"""Kept weights: beside their record, found by it, used for images of one's own and by torchvision."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from made_up import record
from PIL import Image
from safetensors.torch import save_file

from focalrepro import cli
from focalrepro.data.pixels import EXIF_ORIENTATION
from focalrepro.data.registry import Descriptor, Part
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.evaluation.detect import detect
from focalrepro.show.detect import boxes_in, detect_images
from focalrepro.study import kept
from focalrepro.study.ablations import Planned, get_ablation
from focalrepro.study.campaign import run_missing, with_ids
from focalrepro.study.export import export
from focalrepro.study.profiles import PROFILES, get_profile
from focalrepro.study.store import Store
from focalrepro.training.initial import save_model
from focalrepro.training.two_stage import TwoStage

SMOKE = PROFILES["smoke"].base.replace(precision="fp32")
RESNET = SMOKE.replace(backbone="resnet18", first_level=3, last_level=7, head_norm="none", head_convs=4)
V2 = SMOKE.replace(backbone="resnet50v2", first_level=3, weights="imagenet", frozen="backbone", flip=False)
NAMES = [str(digit) for digit in range(10)]
CPU = torch.device("cpu")


def made_up_model(config):
    """A detector that finds things all over the place: random weights, with scores that differ."""
    torch.manual_seed(3)
    model = (TwoStage if config.detector == "faster_rcnn" else RetinaNet)(config, len(NAMES))
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        if ".layers." in name and name.endswith("weight") and value.dim() == 4:
            value.normal_(std=value[0].numel() ** -0.5)
    if config.detector == "retinanet":
        with torch.no_grad():
            shape = (1, 3, config.image_size, config.image_size)
            logits, offsets = model.eval()(torch.randint(0, 256, shape, dtype=torch.uint8))
            model.class_head.layers[-1].weight /= logits.std()
            model.box_head.layers[-1].weight /= 4 * offsets.std()
    return model.eval()


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path / "results"))
    return Store.local("smoke")


def put(store, config, model=None):
    """A made-up record, with a model's weights beside it; its id."""
    made = record(config, 20.0)
    store.put(made)
    if model:
        save_model(store.weights_path(made.run_id), model, NAMES)
    return made.run_id


@pytest.fixture
def scene(tiny, tmp_path):
    """A file with the first validation image at 128² and its path."""
    path = tmp_path / "scene.png"
    Image.fromarray(np.array(tiny[1].images[0]).transpose(1, 2, 0)).save(path)
    return path


def test_a_run_keeps_what_it_was_asked_to(data_root, tiny, tmp_path):
    store, config = (
        Store(tmp_path / "runs", weights=True),
        SMOKE.replace(weights="none", steps=2, fpn_channels=8),
    )
    (job,) = with_ids([Planned(config, (("made", "row"),))])
    assert run_missing([job], store, "cpu", workers=1) == 0
    (found,) = store.records()
    model, names = kept.load(store, found)
    assert names == list(tiny[1].categories) and not store.lacks(job.run_id)
    assert len(detect(model, config, tiny[1], CPU)[0]) == found.detections.tune + found.detections.test
    store.weights_path(job.run_id).unlink()
    assert store.lacks(job.run_id) and not Store(store.folder).lacks(job.run_id)


def test_a_diverged_run_has_none(store):
    made = record(SMOKE, 0.0, status="diverged")
    store.put(made)
    assert not Store(store.folder, weights=True).lacks(made.run_id)
    with pytest.raises(ValueError, match="no weights are kept of this run; it diverged"):
        kept.load(store, made)


@pytest.mark.parametrize("config", [SMOKE, V2], ids=["trained whole", "frozen backbone"])
def test_an_image_is_seen_as_in_the_evaluation(tiny, config):
    model = made_up_model(config)
    wanted, _ = detect(model, config, tiny[1], CPU)
    boxes, scores, labels = boxes_in(model, config, np.array(tiny[1].images[0]), CPU)
    mine = wanted.image_index == 0
    np.testing.assert_allclose(scores, wanted.scores[mine], atol=0.02 if config is V2 else 1e-5)
    if config is SMOKE:
        np.testing.assert_allclose(boxes, wanted.boxes[mine], atol=1e-2)
        assert (labels == wanted.labels[mine]).all()


def test_a_file_managers_copy_is_no_other_run(store):
    path = store.path(run := put(store, SMOKE))
    path.with_name(f"{run} (1).json").write_bytes(path.read_bytes())
    assert kept.find(run[:4])[1].run_id == run


def test_a_run_is_found_by_the_beginning_of_its_id(store):
    first, second = put(store, SMOKE), put(store, SMOKE.replace(seed=1), made_up_model(SMOKE))
    assert kept.find(first[:5])[1].run_id == first == kept.find(str(store.path(first)))[1].run_id
    Store.committed("smoke").put(store.get(second))
    assert kept.find(second)[0].folder == store.folder, "where its weights are"
    for run, said in (
        ("", "RUN is ''; it must be a run's id"),
        ("0" * 12, "no run's id begins with '000000000000', in "),
        ("none.json", "none.json: no such record"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            kept.find(run)
    for i in range(16):
        put(store, SMOKE.replace(seed=2 + i))
    shared = next(c for c in "0123456789abcdef" if len(list(store.folder.glob(f"{c}*.json"))) > 1)
    with pytest.raises(ValueError, match=f"'{shared}' begins . ids: {shared}.*give more of it"):
        kept.find(shared)


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"gamma": 0.0, "alpha": 0.9, "seed": 2}, "1a --seeds 3 --profile smoke"),
        ({"gamma": 0.77}, "ABLATION --profile smoke"),
    ],
)
def test_without_weights_the_command_is_told(store, changes, command):
    run = put(store, PROFILES["smoke"].base.replace(**changes))
    with pytest.raises(
        ValueError, match=f"{run}.json: no weights .*: focalrepro run {command} --keep-weights"
    ):
        kept.load(*kept.find(run))


def test_the_command_is_told_of_runs_on_own_data(store):
    part = Part(annotations="a.json", images=["i"])
    Descriptor(train=part, val=part).write(store.folder.parents[1] / "mine")
    profile = get_profile("mine")
    config, *_ = get_ablation("1a").row_configs(profile.base, profile.rates).values()
    run = put(Store.local("mine"), config)
    with pytest.raises(ValueError, match=r"focalrepro run \w+ --seeds 1 --profile mine --keep-weights"):
        kept.load(*kept.find(run))


@pytest.mark.parametrize("damage", ["cut", "another", "no file of weights"])
def test_damaged_weights_are_told(store, damage):
    run = put(store, SMOKE, made_up_model(SMOKE))
    path = store.weights_path(run)
    if damage == "another":
        save_model(path, made_up_model(RESNET), NAMES)
    else:
        path.write_bytes(path.read_bytes()[:1000] if damage == "cut" else b"photos")
    with pytest.raises(ValueError, match=r"safetensors: not this run's weights \(.*\); delete the") as caught:
        kept.load(*kept.find(run))
    assert "\n" not in str(caught.value)


def test_detect_draws_and_prints(store, scene, tmp_path, monkeypatch, capsys):
    run, out = put(store, SMOKE, made_up_model(SMOKE)), tmp_path / "out"
    Image.open(scene).resize((256, 192)).save(scene)
    arguments = [run[:8], str(scene), "--score", "0.4", "--out", str(out), "--json", str(out / "found.json")]
    monkeypatch.setattr(sys, "argv", ["focalrepro", "detect", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    lines, found = capsys.readouterr().out.splitlines(), json.loads((out / "found.json").read_text())
    shown = [d for d in found["detections"] if d["score"] >= 0.4]
    assert caught.value.code == 0 and 0 < len(shown) < len(found["detections"]) == 100
    assert len(lines) == 3 + len(shown) and f"{len(shown)} of 100 detections score 0.4" in lines[-2]
    corners = np.array([d["box"] for d in found["detections"]])
    assert corners.min() >= 0 and 128 < corners[:, 2].max() <= 256 and 128 < corners[:, 3].max() <= 192
    picture, plain = (np.asarray(Image.open(p), int) for p in (out / f"scene-{run}.png", scene))
    assert picture.shape == plain.shape and (picture != plain).any()


def test_a_phones_photo_is_seen_upright(store, scene, tmp_path):
    run, exif = put(store, SMOKE, made_up_model(SMOKE)), Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    wide = Image.open(scene).resize((128, 64))
    wide.save(tmp_path / "phone.png", exif=exif)
    wide.rotate(-90, expand=True).save(tmp_path / "turned.png")
    images = [tmp_path / "phone.png", tmp_path / "turned.png"]
    detect_images(run, images, 0.5, tmp_path / "found.json", tmp_path / "out", "cpu")
    assert Image.open(tmp_path / "out" / f"phone-{run}.png").size == (64, 128)
    found = json.loads((tmp_path / "found.json").read_text())["detections"]
    phone, turned = ([d["box"] for d in found if d["image"] == str(path)] for path in images)
    assert phone == turned


def test_boxes_end_with_the_picture(store, scene, tmp_path):
    """To the two-stage detector padding is background like any other."""
    config = SMOKE.replace(detector="faster_rcnn", resize="letterbox")
    run = put(store, config, made_up_model(config))
    Image.open(scene).resize((256, 64)).save(scene)
    detect_images(run, [scene], 0.5, tmp_path / "found.json", tmp_path, "cpu")
    found = json.loads((tmp_path / "found.json").read_text())["detections"]
    assert found and max(d["box"][3] for d in found) <= 64


@pytest.mark.parametrize(
    ("images", "more", "said"),
    [
        ((), (), "give images, at least one"),
        (("none.png",), (), "none.png: No such file"),
        (("junk.png",), (), "junk.png: not a whole image"),
        (("scene.png", "scene.png"), (), "give images, at least one, whose names differ"),
        (("scene.png",), ("--score", "7"), "--score is 7.0; it must lie in 0 … 1"),
        (("scene.png",), ("--json", "scene.png"), "--json is scene.png, one of the images; give a file of"),
        (("scene.png",), ("--json", "junk.png"), "--json is junk.png, which holds something else; give a"),
        (("scene.png",), ("--json", "."), "--json is ., a folder; give a file"),
    ],
)
def test_what_detect_refuses(store, scene, told, monkeypatch, images, more, said):
    run = put(store, SMOKE, made_up_model(SMOKE))
    monkeypatch.chdir(scene.parent)
    (scene.parent / "junk.png").write_bytes(b"no image")
    line = told("detect", run, *images, *more)
    assert line.startswith(f"focalrepro: {said}") and len(line.splitlines()) == 1
    assert not list(scene.parent.glob("*-*.png"))
    assert (scene.parent / "junk.png").read_bytes() == b"no image" and Image.open(scene).size


# ---- for torchvision


@pytest.mark.parametrize("config", [SMOKE, SMOKE.replace(backbone="small_deep", head_convs=2), RESNET])
def test_torchvision_finds_the_same(store, scene, tiny, tmp_path, config):
    model = made_up_model(config)
    run = put(store, config, model)
    file, code = export(run, tmp_path / "model.safetensors")
    assert "focalrepro." not in code.read_text() and export(run, file) == [file, code], (
        "it may be written again"
    )
    spec = importlib.util.spec_from_file_location("written", code)
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    theirs, classes = written.load(str(file))
    pixels = np.array(tiny[1].images[0])
    with torch.inference_mode():
        (found,) = theirs([torch.from_numpy(pixels) / 255])
    boxes, scores, labels = boxes_in(model, config, pixels, CPU)
    assert classes == NAMES and len(scores) == 100 and len(set(labels)) > 1 and np.ptp(scores) > 0.01
    np.testing.assert_allclose(found["scores"].numpy(), scores, atol=1e-4)
    np.testing.assert_allclose(found["boxes"].numpy(), boxes, atol=0.02)
    assert (found["labels"].numpy() == labels).all()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (SMOKE.replace(detector="faster_rcnn"), "RunConfig.detector 'faster_rcnn' is no RetinaNet"),
        (V2, "RunConfig.backbone 'resnet50v2' is no network of torchvision's"),
        (RESNET.replace(last_level=6), "RunConfig.last_level 6 needs 1 levels above the backbone's"),
        (RESNET.replace(fpn_channels=512), "RunConfig.fpn_channels 512 is C5's number"),
        (RESNET.replace(image_size=96), "RunConfig.image_size 96 is no multiple"),
        (
            RESNET.replace(kept_channels=0.5, frozen="backbone", flip=False, weights="imagenet"),
            "RunConfig.kept_channels 0.5 projects",
        ),
    ],
)
def test_what_torchvision_cannot_express_is_named(store, tmp_path, config, said):
    run = put(store, config, made_up_model(config))
    with pytest.raises(ValueError, match=said):
        export(run, tmp_path / "model.safetensors")
    assert not list(tmp_path.glob("model.*"))


def test_export_overwrites_no_code_of_others(store, tmp_path):
    (tmp_path / "train.py").write_text("mine")
    save_file({"weight": torch.zeros(1)}, tmp_path / "theirs.safetensors")
    for name, said in (
        ("train.safetensors", "train.py: is there and would be lost"),
        ("a.pth", "must end in"),
        ("torch.safetensors", "would hide another; give a name such as model.safetensors"),
        ("retina-net.safetensors", "could not be imported"),
        ("theirs.safetensors", "theirs.safetensors: is there, was not made by this, and would be lost"),
    ):
        with pytest.raises(ValueError, match=said):
            export("0", tmp_path / name)

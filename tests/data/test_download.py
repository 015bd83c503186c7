"""The downloader against a server on this machine that misbehaves in the ways that servers do."""

import hashlib
import io
import json
import logging
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from server import Server

from focalrepro.data import DatasetError, load, weights
from focalrepro.data import coco as coco256
from focalrepro.data import fetch as fetching
from focalrepro.data.coco import download_coco256

IDS = {"train2017": [9, 25, 30, 34, 36], "val2017": [139, 285]}
WIDTH, HEIGHT = 64, 48
ARCHIVE = "/annotations/annotations_trainval2017.zip"


def jpeg(key):
    coarse = np.random.default_rng(key).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def official_annotations(ids):
    """As COCO's: more images than the manifest's, outlines, crowds, areas of outlines."""
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "width": WIDTH, "height": HEIGHT, "license": 1}
        for i in [*ids, 999]
    ]
    annotations = []
    for i in reversed([*ids, 999]):
        box = {"image_id": i, "category_id": 90, "segmentation": [[1, 2, 3, 4, 5, 6]]}
        annotations += [
            {**box, "id": 1000 + i, "bbox": [1.5, 2.25, 20.1, 10.3], "area": 77.7, "iscrowd": 0},
            {**box, "id": 2000 + i, "bbox": [0, 0, 30, 30], "area": 500.0, "iscrowd": 1},
        ]
    categories = [{"id": 90, "name": "toothbrush", "supercategory": "indoor"}]
    return {"info": {"year": 2017}, "images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def server():
    server = Server()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for official, ids in IDS.items():
            name = coco256.annotations_file(official)
            archive.writestr(zipfile.ZipInfo(name), json.dumps(official_annotations(ids)))
            for key in ids:
                server.files[f"/{official}/{key:012d}.jpg"] = jpeg(key)
    server.files[ARCHIVE] = stream.getvalue()
    with server:
        yield server


@pytest.fixture
def fetch(server, tmp_path, monkeypatch):
    """Call the downloader on the server, with waits of milliseconds."""
    manifest = tmp_path / "manifest.json"
    md5 = hashlib.md5(server.files[ARCHIVE]).hexdigest()
    manifest.write_text(json.dumps({**IDS, "annotations_md5": md5}))

    monkeypatch.setattr(coco256, "ADDRESS", server.url)
    monkeypatch.setattr(coco256, "MANIFEST", manifest)
    monkeypatch.setattr(fetching, "TRIES", 3)
    monkeypatch.setattr(fetching, "WAIT", 0.002)

    def call(workers=3):
        monkeypatch.setattr(coco256, "WORKERS", workers)
        return download_coco256(tmp_path / "root")

    return call


def image_path(key, official="train2017"):
    return f"/{official}/{key:012d}.jpg"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_download_holds_what_an_import_does(fetch, server, tmp_path):
    folder = fetch()
    root = tmp_path / "root"
    assert folder == root / "coco256"
    assert names(folder) == [
        "annotations",
        "dataset.json",
        "train2017",
        "val2017",
    ]  # no archive, nothing partial
    assert sum(server.asked.values()) == 8 and max(server.asked.values()) == 1
    truth = json.loads((folder / "annotations" / "instances_train2017.json").read_text())
    assert [i["id"] for i in truth["images"]] == IDS["train2017"]
    assert [a["image_id"] for a in truth["annotations"]] == IDS["train2017"]  # no crowds
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3, 4, 5]
    assert {a["area"] for a in truth["annotations"]} == {round(20.1 * 10.3, 2)}
    assert truth["images"][0]["width"] == WIDTH
    with Image.open(folder / "train2017" / "000000000009.jpg") as image:
        assert image.size == (256, 256) and image.format == "JPEG"
        got = np.asarray(image).astype(int)
    with Image.open(io.BytesIO(jpeg(9))) as image:
        expected = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(got - expected).mean() < 3  # JPEG at quality 95
    data = load("coco256", "val", 256, root=root)
    assert data.image_ids.tolist() == IDS["val2017"] and data.images.shape == (2, 3, 256, 256)


def test_a_whole_download_is_not_repeated(fetch, server):
    fetch()
    server.asked.clear()
    fetch()
    assert not server.asked


def test_a_folder_made_by_hand_is_not_replaced(fetch, server, tmp_path):
    (folder := tmp_path / "root" / "coco256").mkdir(parents=True)
    (folder / "mine").touch()
    with pytest.raises(DatasetError, match=r"coco256: is there already, .*focalrepro data coco256 --from"):
        fetch()
    assert names(folder) == ["mine"] and not server.asked


@pytest.mark.parametrize("fault", ["drop", "truncate", "garbage", 500, 503, 429])
def test_a_passing_fault_is_retried(fetch, server, fault):
    server.faults[image_path(25)] = [fault, fault]
    folder = fetch()
    assert server.asked[image_path(25)] == 3
    assert (folder / "train2017" / "000000000025.jpg").is_file()


def test_lasting_faults_are_listed_and_a_second_run_mends_them(fetch, server, tmp_path):
    faults = {9: ["truncate"] * 9, 25: [404], 30: ["drop"] * 9, 34: ["garbage"] * 9}
    server.faults = {image_path(key): list(value) for key, value in faults.items()}
    with pytest.raises(DatasetError, match="run the same command again") as caught:
        fetch()
    message = str(caught.value)
    assert "4 images failed; 4 of 7 are still missing" in message
    assert f"{server.url}{image_path(25)}: the server answers 404" in message
    for key in (9, 30, 34):
        assert f"{key:012d}.jpg: " in message
    assert "000000000036.jpg" not in message
    assert server.asked[image_path(25)] == 1  # "not found" is not asked again
    assert server.asked[image_path(9)] == 3
    root = tmp_path / "root"
    assert not (root / "coco256").exists()
    assert names(root / "downloads" / "coco256" / "train2017") == ["000000000036.jpg"]  # nothing half-written
    with pytest.raises(DatasetError, match=r"is not in .* yet"):
        load("coco256", "train", 256, root=root)

    server.faults.clear()
    server.asked.clear()
    folder = fetch()
    assert server.asked == Counter({image_path(key): 1 for key in faults})  # only what was missing
    assert len(names(folder / "train2017")) == 5 and not (root / "downloads" / "coco256").exists()


def test_a_wrong_checksum_is_not_used(fetch, server, tmp_path):
    whole = server.files[ARCHIVE]
    server.files[ARCHIVE] = whole[:-1] + b"x"
    with pytest.raises(DatasetError, match=r"annotations_trainval2017\.zip: does not have the checksum md5:"):
        fetch()
    assert server.asked == Counter({ARCHIVE: 1})
    assert names(tmp_path / "root" / "downloads" / "coco256") == []
    server.files[ARCHIVE] = whole
    assert fetch().is_dir()


def test_a_cut_archive_is_fetched_again(fetch, server):
    server.faults[ARCHIVE] = ["truncate", "drop"]
    assert fetch().is_dir()
    assert server.asked[ARCHIVE] == 3


@pytest.mark.parametrize("share", [2, 1])
def test_what_a_killed_fetching_left_is_fetched_on(fetch, server, tmp_path, share):
    folder, whole = tmp_path / "root" / "downloads" / "coco256", server.files[ARCHIVE]
    folder.mkdir(parents=True)
    (folder / "annotations_trainval2017.zip.part").write_bytes(whole[: len(whole) // share])
    assert names(fetch()) == ["annotations", "dataset.json", "train2017", "val2017"]


def test_what_it_left_and_is_no_part_of_it_goes(fetch, tmp_path):
    folder = tmp_path / "root" / "downloads" / "coco256"
    folder.mkdir(parents=True)
    (folder / "annotations_trainval2017.zip.part").write_bytes(b"half of an archive")
    with pytest.raises(DatasetError, match=r"does not have the checksum md5:.* run the same command again"):
        fetch()
    assert names(fetch()) == ["annotations", "dataset.json", "train2017", "val2017"]


def test_an_absent_archive_says_so(fetch, server):
    server.faults[ARCHIVE] = [403]
    with pytest.raises(DatasetError, match=r"annotations_trainval2017\.zip: the server answers 403"):
        fetch()
    assert server.asked[ARCHIVE] == 1


def test_an_archive_without_the_manifests_images_is_refused(fetch, tmp_path):
    manifest = tmp_path / "manifest.json"
    value = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**value, "val2017": [*IDS["val2017"], 777]}))
    with pytest.raises(DatasetError, match=r"1 missing \[777\]"):
        fetch()


def test_a_dead_server_ends_the_download_early(fetch, server, monkeypatch):
    monkeypatch.setattr(coco256, "GIVE_UP_AFTER", 2)
    for key in IDS["train2017"]:
        server.faults[image_path(key)] = ["drop"] * 9
    with pytest.raises(DatasetError, match="2 images failed in a row, so the download stopped"):
        fetch(workers=1)
    assert sum(count for path, count in server.asked.items() if path.endswith(".jpg")) <= 3 * 3


def test_a_killed_download_goes_on(fetch, server, monkeypatch):
    kept = coco256.fetch_image

    def killed(session, wanted):
        if wanted.url.endswith("000000000030.jpg"):
            raise KeyboardInterrupt
        kept(session, wanted)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(coco256, "fetch_image", killed)
        fetch(workers=1)
    server.asked.clear()
    folder = fetch()
    assert ARCHIVE not in server.asked and image_path(9) not in server.asked
    assert server.asked[image_path(30)] == 1 and len(names(folder / "train2017")) == 5


def test_a_kill_at_the_very_end_leaves_no_archive(fetch, server, tmp_path, monkeypatch):
    def killed(folder, final):
        folder.rename(final)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(coco256, "move_folder", killed)
        fetch()
    assert names(fetch()) == ["annotations", "dataset.json", "train2017", "val2017"]


def test_leftovers_of_a_killed_write_are_not_images(fetch, tmp_path):
    folder = tmp_path / "root" / "downloads" / "coco256" / "train2017"
    folder.mkdir(parents=True)
    (folder / "000000000009.jpg.part").write_bytes(b"half")
    assert names(fetch() / "train2017") == [f"{key:012d}.jpg" for key in IDS["train2017"]]


def test_no_more_connections_than_workers(fetch, server):
    for official, ids in IDS.items():
        for key in ids:
            server.faults[image_path(key, official)] = ["slow"]
    fetch(workers=2)
    assert server.most_at_once == 2


def test_progress_is_shown_and_can_be_silent(fetch, capfd, caplog):
    caplog.set_level(logging.WARNING)
    fetch()
    shown = capfd.readouterr().err
    assert "fetch images" in shown and "7/7" in shown


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("gzip", "compresses what it sends, unasked"),
        ("endless", "is larger than 1,000,000 bytes"),
        ("trickle", "took longer than 0 s"),
    ],
)
def test_what_a_server_sends_is_bounded_in_bytes_and_time(fetch, server, monkeypatch, fault, message):
    monkeypatch.setattr(coco256, "IMAGE_LIMIT", 1_000_000)
    if fault == "trickle":
        monkeypatch.setattr(fetching, "GRACE", -19.9)  # .1 s at 50 kB/s
    server.faults[image_path(25)] = [fault] * 9
    with pytest.raises(DatasetError, match=rf"000000000025\.jpg: .*{message}"):
        fetch()


def test_an_image_of_another_size_is_not_taken(fetch, server):
    stream = io.BytesIO()
    Image.new("RGB", (HEIGHT, WIDTH)).save(stream, "JPEG")
    server.files[image_path(25)] = stream.getvalue()
    with pytest.raises(DatasetError, match=r"25\.jpg: not a whole image \(\(48, 64\) pixels.*say \(64, 48\)"):
        fetch()


def test_every_address_of_its_own_is_encrypted():
    assert all(url.startswith("https://") for url in (coco256.ADDRESS, weights.ADDRESS))

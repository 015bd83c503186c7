"""All of COCO: archives that are fetched on after a cut, and a copy on disk."""

import hashlib
import io
import json
import zipfile

import pytest
from server import Server
from test_download import jpeg, official_annotations

from focalrepro.cli import data as command
from focalrepro.data import DatasetError, coco, load
from focalrepro.data import fetch as fetching
from focalrepro.data.coco import ARCHIVES, Archive, download_coco, import_copy

IDS = {"train2017": [9, 25, 30], "val2017": [139, 285]}


def packed(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture(scope="module")
def contents():
    """The three archives, small: their bytes by their path."""
    files = {
        f"annotations/instances_{official}.json": json.dumps(official_annotations(ids))
        for official, ids in IDS.items()
    }
    zips = {"/annotations/annotations_trainval2017.zip": packed(files)}
    for official, ids in IDS.items():
        zips[f"/zips/{official}.zip"] = packed({f"{official}/{i:012d}.jpg": jpeg(i) for i in [*ids, 999]})
    return zips


@pytest.fixture
def server(contents, monkeypatch):
    with Server() as running:
        running.files |= contents
        monkeypatch.setattr(coco, "ADDRESS", running.url)
        monkeypatch.setattr(coco, "ARCHIVES", small(contents))
        monkeypatch.setattr(fetching, "TRIES", 3)
        monkeypatch.setattr(fetching, "WAIT", 0.0)
        yield running


def small(contents):
    return [
        Archive(a.path, len(contents[f"/{a.path}"]), hashlib.md5(contents[f"/{a.path}"]).hexdigest())
        for a in ARCHIVES
    ]


def test_archives_become_a_dataset(server, contents, tmp_path):
    folder = download_coco(tmp_path)
    assert folder == tmp_path / "coco" and not list(folder.glob("*.zip"))
    for split, official in (("train", "train2017"), ("val", "val2017")):
        found = load("coco", split, 64, resize="letterbox", root=tmp_path)
        assert len(found) == len(IDS[official]) + 1 and found.categories == ("toothbrush",)
    asked = sum(server.asked.values())
    download_coco(tmp_path)
    assert sum(server.asked.values()) == asked, "what is there is not fetched again"


def test_an_archive_that_a_killed_run_left_goes(server, contents, tmp_path, monkeypatch):
    def killed(*_, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(coco.Path, "unlink", killed)
        download_coco(tmp_path)
    assert len(list((tmp_path / "coco").glob("*.zip"))) == 1
    assert not list(download_coco(tmp_path).glob("*.zip"))


@pytest.mark.parametrize("fault", ["truncate", "drop", "no ranges"])
def test_a_cut_archive_is_fetched_on(server, contents, tmp_path, fault):
    path = "/zips/train2017.zip"
    server.faults[path] = ["truncate", fault]
    download_coco(tmp_path)
    assert len(load("coco", "train", 64, root=tmp_path)) == 4
    assert server.asked[path] == (2 if fault == "no ranges" else 3)


def test_a_broken_archive_is_said_and_removed(server, contents, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(coco, "ARCHIVES", [a._replace(md5="0" * 32) for a in small(contents)])
        with pytest.raises(DatasetError, match=r"trainval2017\.zip: does not have the checksum md5:0000"):
            download_coco(tmp_path)
    assert not list((tmp_path / "coco").glob("*.zip"))
    server.faults["/zips/val2017.zip"] = [404]
    with pytest.raises(DatasetError, match=r"val2017\.zip: the server answers 404.*same command again"):
        download_coco(tmp_path)


def test_a_copy_stays_where_it_is(server, contents, tmp_path):
    copy = download_coco(tmp_path / "elsewhere")
    folder = import_copy("coco", copy, tmp_path)
    assert len(load("coco", "val", 64, root=tmp_path)) == 3
    assert [p.name for p in folder.iterdir()] == ["dataset.json"]
    (copy / "val2017").rename(copy / "moved")
    with pytest.raises(DatasetError, match=r"missing: val2017/ or val2017.*; add it, or give another folder"):
        import_copy("coco", copy, tmp_path)


def test_nobody_is_made_to_fetch_20_gb(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    monkeypatch.delenv("YES", raising=False)
    with pytest.raises(DatasetError, match=r"20,403 MB over the network.*set YES=1"):
        command("coco")

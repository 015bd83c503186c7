"""`.ci/offline`: what it packs can be unpacked as it lies there, and its wheels lack no other."""

import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "offline"
ON_THE_MACHINE = {"numpy", "requests", "packaging", "setuptools"}  # come with torch, torchvision and pandas

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="not in this copy")


def test_pieces_are_unpacked_from_the_folders_that_pack_makes(tmp_path):
    inside, there = tmp_path / "pack", tmp_path / "there"
    for path, text in (("code/a.py", "x = 1\n"), ("data/b", "b" * 5000)):
        (inside / path).parent.mkdir(parents=True)
        (inside / path).write_text(text)
    (there / "site").mkdir(parents=True)  # as if the wheels were installed
    subprocess.run(["tar", "cf", tmp_path / "whole.tar", "-C", inside, "."], check=True)
    subprocess.run(["gzip", tmp_path / "whole.tar"], check=True)
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    for i in (1, 2, 3):
        (there / str(i)).mkdir()
        third = slice((i - 1) * len(whole) // 3, i * len(whole) // 3)
        (there / str(i) / f"piece.{i}").write_bytes(whole[third])
    without_its_last_line = f"source <(sed '$d' {SCRIPT}); unpack {there}"
    subprocess.run(["bash", "-c", without_its_last_line], check=True)
    assert (there / "code" / "a.py").read_text() == "x = 1\n"
    assert (there / "data" / "b").read_text() == "b" * 5000


def test_no_wheel_needs_one_that_is_not_packed():
    wheels = set(re.search(r'^WHEELS="(.*)"$', SCRIPT.read_text("utf-8"), re.M)[1].split())
    needed = {
        re.match(r"[\w.-]+", line)[0].lower().replace("_", "-")
        for wheel in wheels
        for line in requires(wheel) or ()
        if "extra ==" not in line and "python_version" not in line and "platform" not in line
    }
    assert needed - wheels <= ON_THE_MACHINE, needed - wheels

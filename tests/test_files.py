"""Files and folders written in one step: what is killed leaves nothing behind, what finds no room says so."""

import errno
import os
import signal
import subprocess
import sys
from threading import Thread

import numpy as np
import pytest

from focalrepro import files
from focalrepro.files import UNFINISHED, locked, move_folder, new_array, new_folder, write_atomic

KILLED = """
import os, signal, sys
from pathlib import Path
from focalrepro.files import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(b"x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""

KILLED_REPLACING = """
import os, signal, sys
from pathlib import Path
from focalrepro.files import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""

KILLED_WRITING = """
import os, signal
from pathlib import Path
from focalrepro.files import write_atomic
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_atomic(Path("{path}"), b"x" * 1000)
"""


def test_of_two_writers_of_the_same_content_the_first_wins(tmp_path):
    final = tmp_path / "final"
    with new_folder(final, replace=False) as mine:
        (mine / "a").write_text("second")
        with new_folder(final, replace=False) as other:
            (other / "a").write_text("first")
    assert (final / "a").read_text() == "first" and list(tmp_path.iterdir()) == [final]


def test_a_failed_move_brings_the_old_folder_back(tmp_path):
    final = tmp_path / "final"
    final.mkdir()
    (final / "a").write_text("old")
    with pytest.raises(OSError):
        move_folder(tmp_path / "nowhere", final)
    assert (final / "a").read_text() == "old" and list(tmp_path.iterdir()) == [final]


def test_what_a_killed_process_left_is_removed_at_once(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name.startswith(UNFINISHED) for path in tmp_path.iterdir()] == [True]
    with new_folder(tmp_path / "b"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_an_old_folder_whose_place_a_killed_process_left_empty_takes_it_again(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED_REPLACING, tmp_path / "a"], check=False)
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "a").exists()
    with new_folder(tmp_path / "b"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a" / "x").read_text() == "old"


def test_a_folder_that_is_being_written_is_left_alone(tmp_path):
    with new_folder(tmp_path / "a") as mine:
        with new_folder(tmp_path / "b"):
            assert mine.is_dir()
        (mine / "x").write_text("whole")
    assert (tmp_path / "a" / "x").read_text() == "whole"


def test_a_mapped_array_has_its_room_before_it_is_written(tmp_path):
    array = new_array(tmp_path / "a.npy", (3, 1000), np.uint8)
    assert os.stat(tmp_path / "a.npy").st_blocks * 512 >= 3000
    array[:] = 7
    array.flush()
    assert (np.load(tmp_path / "a.npy") == 7).all()


@pytest.mark.parametrize("fallocate", [True, False])
def test_a_full_disk_is_one_line_and_no_bus_error(tmp_path, monkeypatch, fallocate):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fallocate:
        monkeypatch.setattr(os, "posix_fallocate", full)
    else:
        monkeypatch.delattr(os, "posix_fallocate")
        usage = type("Usage", (), {"free": 10})
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"no room for 2 MB .*FOCALREPRO_DATA.*a\.npy") as caught:
        new_array(tmp_path / "a.npy", (2, 1000, 1000), np.uint8)
    assert caught.value.errno == errno.ENOSPC


def test_a_file_half_written_by_a_killed_process_goes_with_the_next_writing(tmp_path):
    code = KILLED_WRITING.format(path=tmp_path / "a.json")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    mine = tmp_path / f".a.json.{files.platform.node()}-{os.getpid()}.partial"
    running = tmp_path / f".a.json.{files.platform.node()}-{os.getppid()}.partial"
    for path in (mine, running):
        path.touch()
    files.write_atomic(tmp_path / "a.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.json", running.name])


def test_a_disk_that_fills_up_while_a_file_is_written_names_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.json"):
        files.write_atomic(tmp_path / "a.json", "x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_link_leads_to_is_written_and_a_pipe_stays_one(tmp_path):
    (tmp_path / "shared.csv").write_text("old")
    (link := tmp_path / "link.csv").symlink_to("shared.csv")
    write_atomic(link, "new")
    assert link.is_symlink() and (tmp_path / "shared.csv").read_text() == "new"
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, "through it")
    assert os.read(reader, 99) == b"through it" and pipe.is_fifo()
    os.close(reader)
    code = "from pathlib import Path; from focalrepro.files import write_atomic as write; "
    code += "write(Path('/dev/stdout'), 'said')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "said"


def test_a_lock_is_waited_for_or_refused(tmp_path, capsys):
    order = []

    def second():
        with locked(tmp_path / "new" / "lock", "another holds it"):
            order.append("second")

    with locked(tmp_path / "new" / "lock"):
        waiting = Thread(target=second)
        waiting.start()
        with (
            pytest.raises(RuntimeError, match="another process writes into"),
            locked(tmp_path / "new" / "lock"),
        ):
            pass
        waiting.join(0.5)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"] and "another holds it" in capsys.readouterr().err


def test_where_nothing_can_be_locked_that_is_said(tmp_path, monkeypatch, capsys):
    def refuses(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", refuses)
    with locked(tmp_path / "lock"):
        assert "no file can be locked here (Function not implemented)" in capsys.readouterr().err


def test_roots_may_begin_with_the_users_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DATA", "RESULTS"):
        monkeypatch.setenv(f"FOCALREPRO_{name}", f"~/{name}")
    assert [files.data_root(), files.results_root("x")] == [tmp_path / "DATA", tmp_path / "RESULTS" / "x"]


def test_a_relative_folder_is_the_same_one_wherever_a_notebook_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("FOCALREPRO_DATA", "mydata")
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path))
    here = files.data_root()
    monkeypatch.chdir(tmp_path)
    assert files.data_root() == here == files.repo_root() / "mydata" and files.results_root() == tmp_path


@pytest.mark.parametrize(
    ("value", "wanted"), [("1", True), ("Yes", True), ("", False), ("0", False), ("no", False)]
)
def test_yes_and_no(monkeypatch, value, wanted):
    monkeypatch.setenv("YES", value)
    assert files.is_set("YES") is wanted


def test_what_is_neither_yes_nor_no_is_refused(monkeypatch):
    monkeypatch.setenv("YES", "perhaps")
    with pytest.raises(ValueError, match="YES is 'perhaps' in the environment; it must be 1 or 0"):
        files.is_set("YES")


def test_a_name_that_is_not_utf8_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"a\.json cannot hold .*udcff.png.*, which is not UTF-8; rename that"
    ):
        write_atomic(tmp_path / "a.json", '{"image": "\udcff.png"}')
    assert not list(tmp_path.iterdir())

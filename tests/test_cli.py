"""What a command says where the system refuses:
one line with the path and the mend, never a traceback unasked.
"""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from focalrepro import cli


@pytest.fixture
def ending(told, monkeypatch):
    """A function: what the command line says of a command that ends in this error."""

    def of(error, *args):
        def fails() -> int:
            raise error

        monkeypatch.setitem(cli.COMMANDS, "fails", fails)
        return told(*args, "fails")

    return of


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/a/b"),
            "/a/b: No space left on device; free some disk",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a"),
            "/a: Permission denied; check the path and its",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/a"),
            "/a: No such file or directory; check",
        ),
        (FileNotFoundError("none.csv: no such file; give --csv"), "none.csv: no such file; give --csv"),
        (OSError(errno.EIO, "Input/output error"), "{root}: Input/output error; check the path"),
        (
            MemoryError(),
            "{root}: too large for this machine's memory (no room for an object); take less of it",
        ),
        (RuntimeError("as it says"), "as it says"),
    ],
)
def test_what_the_system_refuses_is_one_line(ending, monkeypatch, tmp_path, error, line):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    said = ending(error)
    assert said.startswith("focalrepro: " + line.format(root=tmp_path)) and len(said.splitlines()) == 1


def test_an_array_without_room_says_how_large_it_is(monkeypatch, ending):
    with pytest.raises(MemoryError) as caught:
        np.zeros(2**60, np.uint8)
    said = ending(caught.value)
    assert "memory (Unable to allocate 1.00 EiB" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("how", ["option", "variable"])
def test_the_traceback_is_shown_where_it_is_asked_for(monkeypatch, ending, how):
    monkeypatch.setenv("FOCALREPRO_DEBUG", "1" if how == "variable" else "0")
    said = ending(OSError("why"), *(["--debug"] if how == "option" else []))
    assert said.startswith("Traceback") and said.endswith("\nfocalrepro: why\n") and "in fails" in said


def test_a_reader_that_has_read_enough_ends_it_quietly(tmp_path):
    code = "from focalrepro import cli; cli.COMMANDS['long'] = lambda: print('x' * 10**6) or 0; cli.main()"
    command = [sys.executable, "-c", code, "long"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_folder_that_cannot_be_written(told, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "file" / "data"))
    said = told("run", "1a", "--profile", "smoke")
    assert len(said.splitlines()) == 1
    assert said.startswith(f"focalrepro: {tmp_path / 'file'}") and os.strerror(errno.ENOTDIR) in said

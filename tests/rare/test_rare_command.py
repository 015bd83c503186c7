"""`focalrepro rare`: from a CSV to the rows, and every wrong option in one line."""

import errno
import os
import re
from pathlib import Path

import pandas as pd
import pytest

from focalrepro import cli
from focalrepro.files import refusal
from focalrepro.rare import models
from focalrepro.rare.command import command, inert
from focalrepro.rare.models import METHODS, TREES


def test_csv_end_to_end(table, tmp_path, capsys):
    table.to_csv(tmp_path / "f.csv", index=False)
    out = tmp_path / "new" / "rows.csv"
    assert cli.rare(csv=tmp_path / "f.csv", target="fraud", seeds=2, steps=60, out=out) == 0
    printed = capsys.readouterr().out
    assert "f.csv at 1:9, 20 positives to train on" in printed
    assert "focal loss γ = 2, α = .25 against cross entropy at 1:9 on f.csv: average precision" in printed
    rows = pd.read_csv(out)
    assert (
        len(rows) == 2 * (len(METHODS) + 1 + len(TREES) * models.INSTALLED) and (rows["ap"] > 0.3).all()
    )  # chance is 0.1
    assert re.search(
        r"\nf.csv at 1:9: focal loss is .*worth it: the best of [24] settings, .* changes", printed
    )
    assert list(out.parent.iterdir()) == [out]


def test_without_lightgbm_one_line_says_how_to_get_it(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(models, "INSTALLED", False)
    table.to_csv(tmp_path / "f.csv", index=False)
    command(csv=tmp_path / "f.csv", target="fraud", seeds=1, steps=1)
    printed = capsys.readouterr().out
    assert printed.count(models.HINT + "\n") == 1 and "pip install" in models.HINT
    assert "trees, log loss" not in printed


def test_the_table_is_not_overwritten(table, tmp_path, monkeypatch):
    path, link = tmp_path / "f.csv", tmp_path / "link.csv"
    table.to_csv(path, index=False)
    link.symlink_to(path)
    before = path.read_bytes()
    monkeypatch.chdir(tmp_path)
    for out in (path, link, Path("f.csv"), tmp_path / "x" / ".." / "f.csv"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(
            ValueError, match=r"--out .* is the table of --csv, which it would overwrite; give"
        ):
            command(csv=path, target="fraud", out=out, seeds=1, steps=1)
    assert path.read_bytes() == before


def test_out_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out .*rows\.csv: nothing can be written into .*file; give"):
        command(out=tmp_path / "file" / "rows.csv")


def test_a_disk_that_is_full_in_the_end_is_one_line(table, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    table.to_csv(tmp_path / "f.csv", index=False)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        command(csv=tmp_path / "f.csv", target="fraud", seeds=1, steps=1, out=tmp_path / "rows.csv")
    assert re.search(r"rows\.csv: No space left on device; free some disk", refusal(caught.value))


def test_no_text_is_executed_by_a_spreadsheet(table, tmp_path):
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "a=1", "γ = 2", ""]
    shown = inert(pd.DataFrame({"text": texts, "number": [-1.5] * len(texts)}))
    assert shown["text"].tolist() == ["'" + t for t in texts[:6]] + texts[6:]
    assert (shown["number"] == -1.5).all()
    table.to_csv(tmp_path / "=evil.csv", index=False)
    command(csv=tmp_path / "=evil.csv", target="fraud", out=tmp_path / "out.csv", seeds=1, steps=1)
    assert set(pd.read_csv(tmp_path / "out.csv")["dataset"]) == {"'=evil.csv"}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target": "y"}, "belong together"),
        ({"csv": "f.csv"}, "belong together"),
        ({"csv": "f.csv", "target": "y", "rates": (10,)}, "its own rate"),
        ({"out": Path(".")}, "is a folder"),
        ({"steps": -1}, "--steps is -1"),
        ({"steps": 10**9}, "--steps is 1000000000; it must be 1 … 100000"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": 10**7}, "--seeds is 10000000; it must be 1 … 1000"),
        ({"rates": (100000,), "steps": 1}, "smaller numbers"),
    ],
)
def test_command_errors(options, message):
    with pytest.raises(ValueError, match=message):
        command(**options)

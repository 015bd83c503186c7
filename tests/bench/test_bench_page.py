"""The page of the bench: every word of it from fields of the records."""

import json
from pathlib import Path

from focalrepro.bench import measure
from focalrepro.bench.measure import spread
from focalrepro.bench.run import cost_curves, write_page

COMMITTED = Path(__file__).parents[2] / "results" / "bench"


def row(what, ours, theirs, **more):
    return measure.row(what, "them", more.pop("unit", "s"), spread(ours), spread(theirs), **more)[1]


def write(folder, name, rows, **more):
    record = {
        "finished": "today",
        "hardware": {"cpu": name, "cores": 2, "torch": "2", "torchvision": "0", "commit": "abc"},
        "limits": {"teraflops": 1.0, "gigabytes": 10.0},
        "rows": rows,
    }
    (folder / f"{name}.json").write_text(json.dumps(record | more))


def lines_of(folder):
    """The page's table rows by their first cell."""
    text = write_page(folder).read_text()
    return {line.split(" | ")[0].lstrip("| "): line for line in text.splitlines() if line.startswith("| ")}


def test_the_committed_page_is_that_of_the_committed_records(tmp_path):
    for file in COMMITTED.iterdir():
        (tmp_path / file.name).write_bytes(b"" if file.suffix == ".md" else file.read_bytes())
    assert write_page(tmp_path).read_text() == (COMMITTED / "README.md").read_text()


def test_every_machine_has_a_section_and_its_own_picture(tmp_path):
    for name in ("one", "two"):
        write(tmp_path, name, [row("loss", [1.0], [5.0], share=0.25, limit="copy bandwidth")])
    (tmp_path / "two.png").touch()
    text = write_page(tmp_path).read_text()
    assert "## one, 2 cores (`" in text and "## two, 2 cores (`" in text
    assert text.count("](two.png)") == 1 and "one.png" not in text
    assert "| loss | **5.0** | 1 s (once) |" in text and "- **loss**: 25 % of the copy bandwidth; \n" in text


def test_a_gpu_is_named(tmp_path):
    hardware = {"gpu": "Big GPU", "cpu": "c", "cores": 8, "torch": "2", "torchvision": "0", "commit": "abc"}
    write(tmp_path, "gpu", [], hardware=hardware)
    assert "## Big GPU (`gpu`)\n" in write_page(tmp_path).read_text()


def test_numbers_are_worded_as_what_they_are(tmp_path):
    rows = [
        row("once", [0.5], [40.0]),
        row("many", [9.345], [41747.1], extrapolated=True),
        row("spread", [250, 260.0, 270], [79.2], unit="images/s", more_is_better=True, note="ours: 2 runs"),
        row("alike", [260.0], [79.2], more_is_better=True, note="n", like_for_like=spread([190.8])),
    ]
    write(tmp_path, "one", rows)
    lines, text = lines_of(tmp_path), (tmp_path / "README.md").read_text()
    assert "| once | **80.0** | 0.5 s (once) | 40 s (once) |" in lines["once"]
    assert "| **about 4,500** (extrapolated from one) | 9.35 s (once) | 41,747 s (once) |" in lines["many"]
    assert (
        "| 260 images/s (250\u00a0…\u00a0270) |" in lines["spread"]
        and "\n- **spread**: ours: 2 runs\n" in text
    )
    alike = "n; one run of ours with all cores against it: 191 / 79.2 = **2.4**"
    assert f"\n- **alike**: {alike}\n" in text and "- **once**" not in text
    assert len({line.count("|") for line in lines.values()}) == 1


def test_curves_that_share_their_work_share_a_panel():
    points = [{"median": v, "low": v / 2, "high": 2 * v, "n": 3} for v in (1.0, 2.0)]
    curves = [
        {"what": what, "x_label": label, "x": [1, 2], "exponent": 0.5, "y": points}
        for what, label in (("a", "images"), ("b", "images"), ("c", "pixels"))
    ]
    axes = cost_curves(curves, "a machine").axes
    legends = [[text.get_text() for text in panel.get_legend().get_texts()] for panel in axes]
    assert legends == [["a: slope 0.50", "b: slope 0.50"], ["c: slope 0.50"]]
    assert [panel.get_xlabel() for panel in axes] == ["images", "pixels"]

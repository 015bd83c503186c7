"""Pages: what is in them, what is escaped, and what `verify` finds."""

import json
import re

import made_up
import pytest
from made_up import changed, commit, quick_runs, record, runs, study
from matplotlib.figure import Figure

from focalrepro import cli
from focalrepro.evidence import expected
from focalrepro.evidence.difference import Evidence
from focalrepro.files import results_root
from focalrepro.show import front_page, pages, profile_page, tables
from focalrepro.show.tables import Md, escape, markdown
from focalrepro.show.verify import verify
from focalrepro.study.ablations import get_ablation
from focalrepro.study.profiles import PROFILES
from focalrepro.study.store import Store
from focalrepro.study.study import Study

# ---- one place for Markdown


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a|b", "a\\|b"),
        ("<script>&", "&lt;script>&amp;"),
        ("two\n lines", "two lines"),
        ("FL*", "FL\\*"),
        ("p_t [x](y)", "p\\_t \\[x\\](y)"),
        (Md("**bold**"), "**bold**"),
        (3, "3"),
    ],
)
def test_texts_are_escaped_once(text, wanted):
    assert escape(text) == wanted and escape(escape(text)) == wanted
    (line,) = markdown([{"head": text}]).splitlines()[2:]
    assert line == f"| {wanted} |"


@pytest.mark.parametrize(
    ("value", "digits", "wanted"),
    [
        (0.26, 1, "+0.3"),
        (-0.04, 1, "−0.04"),
        (0.0, 1, "+0.0"),
        (float("nan"), 1, "–"),
        (-0.0004, 3, "−0.0004"),
    ],
)
def test_a_sign_means_something(value, digits, wanted):
    assert tables.signed(value, digits) == wanted


def test_no_line_breaks_an_interval():
    assert tables.between(-0.12, 1, text=tables.signed) == "−0.1\u00a0…\u00a0+1.0"


def test_a_table_of_nothing():
    assert markdown([]) == ""


def test_a_template_that_lacks_a_value_is_told():
    with pytest.raises(Exception, match="undefined"):
        pages.render("index.md.j2", bench=False, claims=False)


# ---- a profile's page


def test_a_page_has_both_ap_and_leads_to_the_records(results):
    commit(quick_runs(at_05=lambda c, rng: {"AP": 12.3}))
    text = profile_page.write_report("quick").read_text()
    assert "| row | rate | AP (95 %) | AP at .05 | AP, classes merged |" in text and "| 12.3 |" in text
    line = next(x for x in text.splitlines() if x.startswith("| γ = 2, α = 0.25 |"))
    linked = re.findall(r"\[\d\]\((runs/\w+\.json)\)", line)
    assert "34.0" in line and len(linked) == 3
    assert all((results / "quick" / path).exists() for path in linked)
    assert "**confirmed** | Focal loss (γ = 2, α = .25) beats the best α-balanced" in text
    assert "{{" not in text and "nan" not in text and "\n\n\n" not in text
    assert "No run here" not in text
    assert (results / "quick" / "figures" / "1b.png").stat().st_size > 1000
    assert "[quick](quick/README.md)" in (results / "README.md").read_text()


def test_a_page_begins_with_its_answer_and_its_contents(results):
    commit(quick_runs())
    top, _ = profile_page.page(Study.committed("quick"))[0].split("## The claims")
    assert re.search(r"- \*\*Confirmed: Focal loss \(γ = 2, α = .25\) beats plain cross entropy", top)
    assert "On this page: [The claims](#the-claims) · [Table 1a](#table-1a) · [Table 1b](#table-1b)" in top


def test_a_page_of_detectors_that_find_nothing_says_so_first(results):
    commit([changed(r, metrics={"AP": r.AP / 100}, at_05={"AP": 0.0}, per_class={}) for r in quick_runs()])
    text = profile_page.write_report("quick").read_text()
    assert "No run here reaches 1 AP" in text.partition("## The claims")[0] and "Rank correlation" not in text


def test_a_page_that_rests_on_few_images_says_so_first(results):
    commit(quick_runs())  # of nine validation images
    top = profile_page.page(Study.committed("quick"))[0].partition("## The claims")[0]
    assert "**Judged on 6 test images: intervals over so few are too narrow" in top
    many = {"val": {"images": 100, "digest": made_up.VAL}}
    text, _ = profile_page.page(study([changed(r, data=many) for r in quick_runs()], "quick"))
    assert "Judged on" not in text


def test_a_search_of_rates_shows_tune_ap():
    base = PROFILES["coco-cpu"].base
    found = [
        record(c, 1.0, tune={"AP": 5 + 1e3 * c.lr})
        for c in get_ablation("lr").configs(base, range(2)).values()
    ]
    shown = tables.search(Evidence(study(found, "coco-cpu")), "lr").splitlines()
    assert shown[0] == "| loss | rate 0.001 | rate 0.002 | rate 0.004 | rate 0.008 |"
    shown_bold = str(shown).count("**")
    assert "| **13.00** [1000](runs/" in shown[2] and shown[2].count("](runs/") == 8
    half = tables.search(Evidence(study(found[:-1], "coco-cpu")), "lr")
    assert half.count("**") == shown_bold - 2, "the last loss has not all its seeds"
    assert half.count("](runs/") == len(found) - 4, "rates of a loss are compared over seeds that all have"


def test_without_runs_it_says_how_to_make_them(results):
    with pytest.raises(ValueError, match="focalrepro run --profile quick"):
        profile_page.write_report("quick")
    assert not results.exists()


def test_own_runs_are_exported_and_shown(results):
    for r in quick_runs():
        Store.local("quick").put(r, reused=True)
    profile_page.write_report("quick")
    kept = Store.committed("quick").records()
    assert len(kept) == 39 and not any(r.reused for r in kept)


# ---- verify


def test_the_pages_of_a_reproduction_are_checked_against_its_own_runs(results):
    commit(quick_runs())
    for r in quick_runs(seeds=1):
        Store.local("quick").put(r)
    readme = profile_page.write_report("quick")
    assert len(Store.committed("quick").records()) == 39 and "1 seed" in readme.read_text()
    assert verify("quick") == []
    for r in Store.local("quick").records():
        Store.local("quick").path(r.run_id).unlink()
    assert len(verify("quick")) >= 26, "where there is no reproduction, runs that no page has are named"


def test_verify_makes_everything_again_and_writes_nothing(results):
    commit(quick_runs())
    with pytest.raises(FileNotFoundError, match="no committed results"):
        verify("quick")
    readme = profile_page.write_report("quick")
    assert verify("quick") == []
    before = {p: p.stat().st_mtime_ns for p in results.rglob("*")}
    text = readme.read_text()
    readme.write_text(text.replace("**confirmed** | Focal loss", "**refuted** | Focal loss", 1))
    off = verify("quick")
    (line,) = off
    assert line.startswith("README.md: The claims, row 'Focal loss (γ = 2, α = .25) beats")
    assert line.endswith("'verdict': page says **refuted**, records say **confirmed**")
    readme.write_text(text)
    (results / "quick" / "figures" / "1a.png").unlink()
    assert verify("quick") == ["figures/1a.png is missing"]
    plain = {"gamma": 0.0, "alpha": 0.5, "lr": PROFILES["quick"].rates["CE, α = .5"], "seed": 0}
    commit([record(PROFILES["quick"].base.replace(**plain), 77.0, [77.0] * 200)])
    off = verify("quick")
    assert any("README.md: Table 1a, row 'α = 0.5', 'AP (95 %)': page says 3" in line for line in off)
    assert any(
        "results.csv: row '1a, α = 0.5, 0', 'AP': page says " in line and "77.0" in line for line in off
    )
    assert {p for p in results.rglob("*") if p.suffix != ".json"} < set(before)


# ---- expected results


def test_what_a_reproduction_is_compared_with(results):
    commit(quick_runs())
    ranges = expected.ranges(Study.committed("quick"))
    best = ranges["1b / γ = 2, α = 0.25"]
    assert best.low <= best.AP - 1 < best.AP + 1 <= best.high and best.seeds == 3
    assert expected.compare(study(quick_runs(), "quick")) is None
    expected.freeze(Study.committed("quick"))
    off, compared = expected.compare(study(quick_runs(), "quick"))
    assert off == [] and compared == 14
    worse = runs(lambda c: 30 - 9 * (c.gamma == 2), profile="quick")
    (line,) = expected.compare(study(worse, "quick"))[0]
    assert line.startswith("1b / γ = 2, α = 0.25: AP 2")


GOOD = {"AP": 30.0, "low": 29.0, "high": 31.0, "seeds": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"rows": {"1a / α', "Invalid JSON"),
        ("[]", ": is []; it should be an object"),
        ('{"rows": {}}', "rows is {}"),
        (json.dumps({"rows": {"1a": {"high": 31.0}}}), "rows.1a.low is missing"),
        (json.dumps({"rows": {"1a": GOOD | {"high": "31"}}}), "rows.1a.high is '31'"),
        (json.dumps({"rows": {"1a": GOOD | {"low": float("nan")}}}), "rows.1a.low is nan"),
        (json.dumps({"rows": {"1a": 30.0}}), "rows.1a is 30.0"),
    ],
)
def test_a_damaged_file_of_expected_results_is_named(results, text, message):
    path = results_root("quick") / "expected.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        expected.compare(study([], "quick"))
    assert str(path) in str(caught.value) and "report --profile quick --freeze" in str(caught.value)


# ---- the front page

AHEAD = lambda config: 30 + 3 * (config.gamma == 2)  # noqa: E731


def test_the_front_page_answers_and_keeps_what_is_around_it(results, tmp_path, monkeypatch):
    commit(runs(AHEAD, profile="full-quick"), "full-quick")
    readme = tmp_path / "README.md"
    monkeypatch.setattr(front_page, "readme_path", lambda: readme)
    readme.write_text("before\n<!-- results:begin (by hand) -->\nstale\n<!-- results:end -->\nafter\n")
    assert readme.read_text() != front_page.renewed().text
    front_page.update_front_page()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "stale" not in text
    answer = text.split("- **Does it work?**\n")[1]
    best = "cross entropy with its best class weight α: AP"
    assert answer.startswith(f"  - On the embedded data: clearly better. Focal loss against {best} ")
    assert "3 seeds" in text and text == front_page.renewed().text and "figures/heat-" not in text
    evidence = (results / "EVIDENCE.md").read_text()
    assert "| plain cross entropy | – | **clearly better**: +3." in evidence and "3 seeds |" in evidence
    assert "**Table 1a**" in evidence and "](full-quick/README.md#table-1a)" in evidence
    assert (results / "figures" / "forest.png").stat().st_size > 1000
    claims = (results / "CLAIMS.md").read_text()
    assert "[`full-quick`](full-quick/README.md)" in claims and "{{" not in claims
    assert re.search(r"\| Focal loss \(γ = 2, α = .25\) beats plain .* \| \*\*confirmed\*\*: \+3", claims)
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="once each"):
        front_page.update_front_page()


@pytest.mark.parametrize("whole", [True, False])
def test_the_plane_is_shown_where_it_is_whole(results, whole):
    commit(
        runs(lambda c: 30 + 3 * (c.gamma == 2), ("1a", "1b", *["grid"] * whole), 1, profile="full-quick"),
        "full-quick",
    )
    page = front_page.front_page()
    text, figures = page.text, page.figures
    assert ("](results/figures/heat-full-quick.png)" in text) is ("heat-full-quick" in figures) is whole
    assert ("Every γ and α on the embedded data (`full-quick`, 1 seed)." in text) is whole


def test_a_profile_under_way_says_what_is_not_judged_yet(results):
    under_way = PROFILES["coco-cpu"]
    names = ("CE, α = .5", "CE, α = .75", "CE, α = .5, π = .001", "FL, γ = 2")
    configs = [
        c
        for name in ("lr", "primary")
        for (label, _), c in get_ablation(name).configs(under_way.base, range(3), under_way.rates).items()
        if label.split(", rate ")[0] in names
    ]
    for c in configs:
        Store.committed("coco-cpu").put(record(c, 5.0 + (c.gamma == 2), tune={"AP": 5.0 + c.lr}))
    page = front_page.front_page()
    answer, table = page.text.split("| focal loss against |")[0], page.evidence.split("## How far")[0]
    assert (
        "  - On real COCO: not judged yet. Focal loss against the best of three cross entropies, each at"
        " its own learning rate: AP 6.00 against 5.00, +1.00 (" in answer
    )
    assert ", from 3 of 8 seeds." in answer
    assert "| plain cross entropy | **not judged yet**: +1.00 (" in table, "it is the best of three here"
    assert "; AP 6.00 against 5.00 (+20 %); 3 of 8 seeds | – |" in table
    assert "cross entropy with its best" not in table
    assert "; 3 of 8 seeds; the same runs as the best of three cross entropies | – |" in table


def test_the_papers_own_comparison_stands_first(results):
    profile = PROFILES["full-quick"]

    def made(c, ap):
        """At .05 a small α loses much, and with it the best α is another."""
        lost = 10.0 if c.gamma == 0 and c.alpha < 0.5 else 0.0
        at_05 = {"AP": ap - lost}
        return record(c, ap, tune={"AP": ap, "AP_at_05": ap - lost}, at_05=at_05)

    for name in ("1a", "1b"):
        for c in get_ablation(name).configs(profile.base, range(3), profile.rates).values():
            ap = 40.0 if c.gamma == 2 else 38.0 if (c.gamma, c.alpha) == (0, 0.25) else 30.0
            Store.committed("full-quick").put(made(c, ap))
    text = front_page.front_page().text
    own, without = (line for line in text.splitlines() if line.startswith("| cross entropy with its best"))
    assert "without scores below .05: the paper's comparison" in own and "AP 40.0 against 30.0 (+33 %)" in own
    assert "AP 40.0 against 38.0 (+5 %)" in without


def test_a_page_is_made_where_no_anchor_fits_any_object(results):
    anchors = {"per_image": 100, "positive_per_image": 0.0}
    text, _ = profile_page.page(study(runs(lambda c: 0.1, ("1b",), anchors=anchors)))
    assert "No run here reaches 1 AP" in text and "are assigned to an object" not in text


def test_a_front_page_without_results_is_empty(results):
    assert front_page.front_page() == front_page.FrontPage()


def test_elsewhere_the_front_page_is_left_alone(results, monkeypatch, capsys):
    commit(quick_runs())
    monkeypatch.setattr(front_page, "update_front_page", lambda: 1 / 0)
    assert cli.report("quick", freeze=True) == 0 and "expected.json" in capsys.readouterr().out
    assert cli.verify("quick") == 0


def test_a_figure_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def killed(self, file, **more):
        if not hasattr(file, "write"):
            file.write_bytes(b"half")
        raise KeyboardInterrupt

    pages.save({"a": Figure}, tmp_path)
    whole = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(Figure, "savefig", killed)
    with pytest.raises(KeyboardInterrupt):
        pages.save({"a": Figure}, tmp_path)
    assert (tmp_path / "a.png").read_bytes() == whole and [p.name for p in tmp_path.iterdir()] == ["a.png"]

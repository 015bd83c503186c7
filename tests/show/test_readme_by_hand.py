"""What README.md says by hand, outside of the part that `focalrepro report` writes, the records say, too.

A sentence stands beside what it rests on: where either changes the test fails, and the other must follow.
"""

import re
from pathlib import Path

import nbformat

from focalrepro.evidence.claims import CLAIMS, judge_all
from focalrepro.evidence.difference import MEASURES
from focalrepro.evidence.tables import mean
from focalrepro.show.front_facts import LEVEL, searched_level
from focalrepro.study.profiles import PROFILES
from focalrepro.study.study import Study

ROOT = Path(__file__).parents[2]
README = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
EVIDENCE = (ROOT / "results" / "EVIDENCE.md").read_text()
DRAWN, COCO = "full-quick", "coco-cpu"


def word(evidence, profile, claim):
    return next(v.word for c, v in judge_all(evidence[profile]) if c.id == claim)


def level(records):
    return mean(r.AP for r in records)


def test_the_divisors_keep_their_order(evidence):
    assert "of five divisors that was the worst on the embedded data" in README
    e = evidence[DRAWN]
    levels = {k: level(r) for k, r in e.rows("normalizer").items() if k.startswith("FL, ")}
    worst = min(levels, key=levels.get)
    assert len(levels) == 4 and "the paper" in worst
    assert CLAIMS["divisor-images"].difference(e).low > 0, "the fifth is no worse"
    for claim, said in (
        ("divisor-images", "brought focal loss +3.9"),
        ("divisor-smooth", "moving average +4.5"),
    ):
        assert said in README and f"{CLAIMS[claim].difference(e).effect:+.1f}" in said
    assert "with either, it is there clearly ahead neither of plain cross entropy nor of" in README
    for claim in ("divisor-images-ce", "divisor-images-free", "divisor-smooth-ce", "divisor-smooth-free"):
        assert word(evidence, DRAWN, claim) == "undecided"
    assert "(where objects are ten times rarer it is ahead of plain cross entropy, and that fares" in README
    for claim in ("divisor-images-rarest", "rarest-rate-steady", "divisor-images-moving-rarest-ce"):
        assert word(evidence, DRAWN, claim) == "confirmed"


def test_level_ground_leaves_nothing_clear(evidence):
    assert "clearly ahead of none of six other losses, plain cross entropy among them, and clearly" in README
    assert len(LEVEL) == 6 and "none (notebook [06]" in README
    assert "nor was it ahead of cross entropy where both picked their α, too." in README
    assert {word(evidence, DRAWN, claim) for claim in (*LEVEL, "level-own-alpha")} == {"undecided"}


def test_in_short(evidence):
    assert "clearly ahead of cross entropy whose α, π and learning rate were tuned, by about 4 % of" in README
    assert (
        "also has four times the box loss, the weight that suited plain cross entropy best, the lead is no"
        in README
    )
    assert word(evidence, COCO, "fl-strongest-box-weight") == "undecided"
    for claim in ("fl-tuned-ce", "fl-strongest-rate"):
        assert word(evidence, COCO, claim) == "confirmed"
        ours, theirs = CLAIMS[claim].difference(evidence[COCO]).levels
        assert 1.035 < ours / theirs < 1.045
    said = "of none of six other losses, once each has a steady divisor and the best of three weights"
    assert f"On the embedded data focal loss is clearly ahead {said}" in README
    assert {word(evidence, DRAWN, claim) for claim in LEVEL} == {"undecided"} and len(LEVEL) == 6
    assert (
        "On COCO it helps more early in training, on the embedded data more where objects are rarer, or"
        in README
    )
    assert word(evidence, COCO, "lead-shrinks") == word(evidence, DRAWN, "rarer-more") == "confirmed"


def test_where_to_use_it(evidence):
    assert "it is clearly ahead of the best of ten cross entropies, of the strongest two also at" in README
    assert "but not of the strongest with four times the box loss, nor with all 80 classes." in README
    assert word(evidence, COCO, "fl-all-classes") == "undecided"
    for claim in ("fl-alpha-and-prior", "fl-strongest-rate"):
        assert word(evidence, COCO, claim) == "confirmed"
    assert "On the embedded data, at its usual rarity, no lead over tuned cross entropies is clear" in README
    said = {c.id: v.word for c, v in judge_all(evidence[DRAWN])}
    without = ("fl-best-alpha", "fl-plain-ce", "fl-tuned-ce", "fl-alpha-and-prior", "best-gamma")
    assert {said[claim] for claim in without} == {"undecided"}
    assert "both pick an α down to .03, each at a rate of its own, +0.2 (at borrowed rates" in README
    assert "and the best α of the paper's grid it was +2.1 and clear)." in README
    assert said["fl-lower-alpha-rate"] == "undecided" and said["fl-own-alpha"] == "confirmed"
    found = [CLAIMS[c].difference(evidence[DRAWN]).effect for c in ("fl-lower-alpha-rate", "fl-own-alpha")]
    assert [f"{gap:+.1f}" for gap in found] == ["+0.2", "+2.1"]


def test_the_weight_of_the_box_loss(evidence):
    rows, e = evidence[DRAWN].rows("box_weight"), evidence[DRAWN]
    for loss, said in (
        ("CE", "brought plain cross entropy +4.5 AP"),
        ("FL", "and focal loss +2.9, by boxes"),
    ):
        heavy, usual = (rows[f"{loss}, box loss × {weight}"] for weight in (16, 1))
        assert said in README and f"{e.difference(heavy, usual).effect:+.1f}" in said
        fit, found = (e.difference(heavy, usual, MEASURES[name]) for name in ("fit", "found"))
        assert fit.interval()[0] > 0 > found.interval()[0]
    assert "focal loss is not clearly ahead of plain cross entropy, nor Sampling-Free of focal" in README
    for claim in ("fl-box-weight", "fl-box-weight-edge", "sampling-free-box-weight"):
        assert word(evidence, DRAWN, claim) == "undecided"
    assert (
        "four times the weight brought plain cross entropy a little and cost focal loss a little more"
        in README
    )
    assert "focal loss stays clearly ahead of plain cross entropy, not of the strongest of ten" in README
    rows, e = evidence[COCO].rows("box_weight"), evidence[COCO]
    plain, focal = (
        e.difference(rows[f"{loss}, box loss × 4"], rows[f"{loss}, box loss × 1"]) for loss in ("CE", "FL")
    )
    assert 0 < plain.low < plain.high < 0.3 and -0.4 < focal.low < focal.high < 0
    assert plain.effect < -focal.effect
    said = {c.id: v.word for c, v in judge_all(e)}
    assert said["box-share-alone"] == "confirmed" == said["fl-box-weight"]


def test_how_rare_objects_must_be(evidence):
    e = evidence[DRAWN]
    assert "The rarer objects are, the more it may help" in README
    assert {c.id: v.word for c, v in judge_all(e)}["rarer-more"] == "confirmed"
    said = "a moving average leaves a quarter of the lead, +2.5: clear on test images, absent on the tune"
    assert said in README
    for claim in ("rarest-divisor-rate", "rarest-rate-steady"):
        assert word(evidence, DRAWN, claim) == "confirmed"
    papers, steady = (CLAIMS[c].difference(e).effect for c in ("rarest-rate", "rarest-rate-steady"))
    assert f"{steady:+.1f}" == "+2.5" and 0.22 < steady / papers < 0.29
    ours, theirs = map(float, searched_level(e))
    assert abs(ours - theirs) < 0.1
    assert "at one in 10,000 it is not clearly ahead of them, nor of cross entropy with π = .001" in README
    for claim in ("rare-rarest-hard", "rare-rarest-prior"):
        assert word(evidence, DRAWN, claim) == "undecided"
    assert "(Rarer, or only fewer? That was not told apart.)" in README
    assert word(evidence, DRAWN, "few-not-rare") == "confirmed" != word(evidence, DRAWN, "few-more")
    assert "it is clearly behind hard negatives at one in 3,000" in README
    assert word(evidence, DRAWN, "rare-3000-hard") == "refuted"


def test_a_small_alpha(evidence):
    assert (
        "at γ = 2 an α of .5 or more costs AP on COCO; on the embedded data it has a lower one, too, "
        in README
    )
    assert "too, clearly so at .99 (at .9 the interval ends at 0)." in README
    clear = {COCO: (0.5, 0.75, 0.9, 0.99, 0.999), DRAWN: (0.99, 0.999)}
    for name, e in evidence.items():
        usual = e.row("ridge", gamma=2.0, alpha=0.25)
        costs = {a: e.difference(e.row("ridge", gamma=2.0, alpha=a), usual) for a in clear[COCO]}
        assert all(cost.effect < 0 for cost in costs.values())
        by_a_hair = costs.pop(0.9) if name == DRAWN else None
        assert tuple(a for a, cost in costs.items() if cost.clear) == clear[name]
        assert by_a_hair is None or abs(by_a_hair.high) < 0.1


def test_what_favours_focal_loss_in_the_recipe():
    said = "with both losses at one rate, which turned out to be its best and half of plain"
    assert said in README
    rates = PROFILES[COCO].rates
    assert rates["FL, γ = 2"] == rates["CE, α = .5"] / 2
    typical = Study.committed(COCO).typical()
    terms = typical.anchors.per_image / typical.anchors.positive_per_image * len(typical.per_class)
    assert f"the loss has {terms:,.0f} terms of the background for each of an object's" in README


def test_what_is_as_good_as_the_papers_choice(evidence):
    assert "(γ = 1 on COCO had an AP as high, α = .03 on the embedded data a clearly higher one)" in README
    rows, e = evidence[COCO].rows("primary"), evidence[COCO]
    assert not e.difference(rows["FL, γ = 1"], rows["FL, γ = 2"]).clear
    assert level(rows["FL, γ = 1"]) >= level(rows["FL, γ = 2"])
    assert word(evidence, DRAWN, "lower-alpha") == "confirmed"


def test_a_small_alpha_is_like_a_heavier_box_loss(evidence):
    assert "with α = .03 boxes fit more closely than with .25, and with α = .1 and a moving" in README
    assert "and a moving average a heavier box loss brought nothing more." in README
    assert word(evidence, DRAWN, "lower-alpha-fit") == "confirmed"
    once, *heavy = (
        level(evidence[DRAWN].rows("level")[f"FL, γ = 2, α = 0.1, moving average, box loss × {w}"])
        for w in (1, 16, 64)
    )
    assert once > max(heavy)


def test_what_two_other_divisors_brought_on_the_embedded_data(evidence):
    found = [-CLAIMS[c].difference(evidence[DRAWN]).effect for c in ("normalizer", "divisor-each-image")]
    assert "On the embedded data these two brought {:.1f} and {:.1f}.".format(*found) in README


def test_what_another_optimiser_changes(evidence):
    found = [CLAIMS[claim].difference(evidence[DRAWN]) for claim in ("fl-sgd", "fl-plain-ce")]
    leads = [f"{gap.effect:+.1f}" for gap in found]
    assert "on the embedded data is {}, with AdamW {}, and neither is clear.".format(*leads) in README
    assert not any(gap.clear for gap in found)


def test_what_the_prior_is_worth(evidence):
    names = [
        c.id for c in CLAIMS.values() if c.sentence.startswith(("Cross entropy needs", "Focal loss needs"))
    ]
    found = [CLAIMS[claim].difference(evidence[name]).effect for claim in names for name in (DRAWN, COCO)]
    said = "lost {:.1f} AP on the embedded data and {:.1f} on COCO, focal loss {:.1f} and {:.1f}, all at the"
    assert len(names) == 2 and said.format(*found) in README


def test_which_prior_for_which_loss(evidence):
    assert "with .001 one of its three seeds ended far behind on the embedded data" in README
    assert "at .01 or .1 for focal loss" in README and "at .01 or .001 for cross entropy" in README
    for e in evidence.values():
        levels = {k: level(r) for k, r in e.rows("prior").items() if k.startswith("CE, ")}
        assert {*sorted(levels, key=levels.get)[-2:]} == {"CE, π = 0.01", "CE, π = 0.001"}
    rows = evidence[DRAWN].rows("prior")
    least = [min(r.AP for r in rows[f"FL, π = {prior}"]) for prior in ("0.1", "0.01", "0.001")]
    assert len(rows["FL, π = 0.001"]) == 3 and min(least[:2]) - least[2] > 5


def test_gamma_of_five(evidence):
    assert "γ = 5 was worse than γ = 2 on COCO, on the embedded data not clearly better or worse," in README
    assert word(evidence, COCO, "gamma-five") == "confirmed"
    assert word(evidence, DRAWN, "gamma-five") == "undecided"


def test_what_a_threshold_costs(evidence):
    assert "a cut at .05 costs focal loss nothing and cross entropy something, while one at .5" in README
    for e in evidence.values():
        lost = {}
        for loss in ("CE, α = .5", "FL, γ = 2"):
            records = e.rows("primary")[loss]
            at = {t: mean(r.thresholds[t] for r in records) for t in ("0.05", "0.5")}
            lost[loss] = {t: level(records) - ap for t, ap in at.items()}
        assert lost["FL, γ = 2"]["0.05"] < 0.05 < lost["CE, α = .5"]["0.05"]
        assert lost["FL, γ = 2"]["0.5"] > lost["CE, α = .5"]["0.5"]


def test_whose_rate_the_picked_gamma_has(evidence):
    searched = {(2.0, 0.25), (1.0, 0.25)}  # focal losses that a search has a rate of
    for e, place in ((evidence[COCO], "real COCO"), (evidence[DRAWN], "the embedded data")):
        note = EVIDENCE.partition("Where focal loss, too, picks its γ, ")[2].partition(". ")[0]
        (said,) = (part for part in note.split("; ") if part.startswith(f"on {place} "))
        picked = CLAIMS["best-gamma"].a.records(e)[0][0].config
        own = (picked.gamma, picked.alpha) in searched and picked.prior == 0.01
        assert ("its pick has a rate that was searched" in said) is own
        assert ("both sides have borrowed rates" in said) is not own


def test_rare_events():
    """The executed notebook's two tables of counts: better, worse, not clear, by measure and loss."""
    cells = nbformat.read(ROOT / "results/quick/notebooks/09_rare_events.ipynb", as_version=4).cells
    counted = {}
    for cell in (c for c in cells if c.source.startswith("verdicts.counts(")):
        measure = ""
        for row in re.findall(r"<tr>(.*?)</tr>", cell.outputs[0].data["text/html"], re.DOTALL):
            *names, loss = re.findall(r"<th[^>]*>([^<]*)</th>", row)
            measure = names[0] if names else measure
            counted[measure, loss] = [int(n) for n in re.findall(r"<td>(\d+)</td>", row)]
    focal = {
        name: [of for (measure, loss), of in counted.items() if measure == name and loss[:5] == "focal"]
        for name in ("average precision", "calibration error")
    }
    assert "it ranks clearly better than cross entropy in none and clearly worse in none, each loss" in README
    assert focal["average precision"] == [[0, 0, 9]] * 2 and "Of the nine small cases of notebook" in README
    assert "clearly worse calibrated in three, with the paper's α clearly better in one." in README
    assert [of[:2] for of in focal["calibration error"]] == [[1, 3], [0, 3]]

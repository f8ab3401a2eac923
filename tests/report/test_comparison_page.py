"""The page of a comparison: what it says, and how it behaves in a real browser."""

from dataclasses import replace

import pytest
from evaluation_results import estimate
from looked_at import ugliness

from stocktake.evaluation.comparison import Comparison, Contrast, Recipe
from stocktake.evaluation.paired_bootstrap import COMPARED
from stocktake.evaluation.promotion import Criteria, decide
from stocktake.metrics.definitions import METRICS
from stocktake.metrics.estimate import Difference
from stocktake.report.comparison import describe_comparison, render_comparison

HOSTILE = "<script>alert(1)</script>$x^2$"
LONG = "a-very-long-name-without-a-break" * 4


def make_recipe(name: str, num_runs: int) -> Recipe:
    runs = [f"runs/{name}/{run}" for run in range(num_runs)]
    measures = {key: estimate(0.4, is_share=METRICS[key].is_share) for key in COMPARED}
    return Recipe(name, runs, [0] * num_runs, measures, {key: [0.38, 0.42][:num_runs] for key in COMPARED})


def make_other(name: str, difference: float, p_value: float) -> Contrast:
    differences = {}
    for key in COMPARED:
        is_share = METRICS[key].is_share
        value = difference if is_share else -10 * difference
        differences[key] = Difference(value, value - 0.02, value + 0.02, is_share)
    bins = {"both": 1277.0, "only_baseline": 39.5, "only_other": 35.0, "neither": 453.0}
    return Contrast(name, differences, bins, p_value / 2, p_value)


def make_comparison(**changes) -> Comparison:
    comparison = Comparison(
        created="2026-01-05T14:30:12+00:00",
        split="test",
        manifest_sha256="9f2c" * 16,
        counts=[1, 2, 3],
        num_images=1804,
        num_blocks=163,
        recipes=[make_recipe("plain", 2), make_recipe(HOSTILE, 1), make_recipe(LONG, 1)],
        contrasts=[make_other(HOSTILE, 0.05, 0.004), make_other(LONG, -0.01, 0.6)],
    )
    return replace(comparison, **changes)


@pytest.mark.parametrize(
    ("difference", "p_value", "words"),
    [
        (
            0.05,
            0.004,
            "counts 5.0 of 100 bins more exactly than plain (95 % interval +3.0 to +7.0 points): it is clearly "
            "better (p = 0.004). Its RMSE is clearly lower (−0.520 to −0.480 items).",
        ),
        (
            -0.05,
            0.0004,
            "5.0 of 100 bins fewer exactly than plain (95 % interval −7.0 to −3.0 points): it is clearly "
            "worse (p < 0.001). Its RMSE is clearly higher",
        ),
        (
            0.001,
            0.43,
            "0.1 of 100 bins more exactly than plain (95 % interval −1.9 to +2.1 points): this may be chance "
            "(p = 0.43).",
        ),
    ],
)
def test_the_sentence_says_what_the_numbers_do(difference, p_value, words):
    comparison = make_comparison(contrasts=[make_other("other", difference, p_value)])
    assert words in " ".join(describe_comparison(comparison)).replace("\u202f", " ")


def test_single_runs_come_with_a_caution_and_several_with_their_spread():
    page = render_comparison(make_comparison(), "python scripts/compare.py")
    assert "what other bins would change" in page and "2 runs: 38.0–42.0" in page
    assert "One run each of plain" not in page
    recipes = [make_recipe(name, 2) for name in ("plain", "other")]
    page = render_comparison(
        make_comparison(recipes=recipes, contrasts=[make_other("other", 0.1, 0.01)]), "python scripts/compare.py"
    )
    assert "what other bins would change" not in page and "means over all pairs of runs" in page
    assert "39.5" in page and "1,277" in page and "Holm" not in page


@pytest.mark.parametrize(("width_px", "color_scheme"), [(390, "dark"), (1280, "light")])
def test_it_does_not_scroll_sideways_and_runs_nothing(browser, tmp_path, width_px, color_scheme):
    file = tmp_path / "comparison.html"
    comparison = make_comparison()
    close = {key: Difference(-0.000612, -0.001234, 0.000056, METRICS[key].is_share) for key in COMPARED}
    contrasts = [replace(contrast, differences=close) for contrast in comparison.contrasts]
    comparison = replace(comparison, contrasts=contrasts)  # whose axes have long numbers
    file.write_text(render_comparison(comparison, "python scripts/compare.py " + "x" * 300), encoding="utf-8")
    context = browser.new_context(viewport={"width": width_px, "height": 844}, color_scheme=color_scheme)
    page = context.new_page()
    troubles = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert troubles == []
    assert page.locator("svg").count() == len(COMPARED)
    assert HOSTILE in page.locator("svg").first.text_content()
    assert page.locator("section").count() == page.locator("nav a").count() == 4
    assert not {"overlapping", "outside"} & set(ugliness(page))
    context.close()


@pytest.mark.parametrize(("difference", "heading"), [(0.05, "Promoted: "), (-0.05, "Not promoted: ")])
def test_a_page_that_decides_begins_with_the_decision_and_what_was_asked(browser, tmp_path, difference, heading):
    recipes = [make_recipe(name, 1) for name in ("champion", "challenger")]
    contrast = make_other("challenger", difference, 0.004)
    contrast = replace(contrast, differences={**contrast.differences, "ece": Difference(-0.02, -0.03, -0.01)})
    comparison = make_comparison(recipes=recipes, contrasts=[contrast])
    decision = decide(comparison, Criteria(0.01, 0.05, 0.01))
    file = tmp_path / "comparison.html"
    file.write_text(render_comparison(comparison, "python scripts/promote.py", decision), encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(file.as_uri())
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.locator("h1").inner_text().startswith(heading) and page.title().startswith(heading)
    asked = page.locator("header table tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in asked] == [check.what for check in decision.checks]
    assert [row.split("\t")[-1] == "yes" for row in asked] == [check.is_met for check in decision.checks]
    verdict = page.locator("header .verdict").first.inner_text()
    assert verdict == (f"Because {'; '.join(decision.reasons)}." if decision.reasons else verdict)
    assert page.locator("header table").bounding_box()["y"] < page.locator("ul.headline").bounding_box()["y"]
    page.close()

"""The page of a search: what it says of usual and of odd searches, and how it looks in a real browser."""

import functools
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from looked_at import looked_at, ugliness
from searches import LR_DROPOUT, RECIPE, make_search, make_ugly_space

from stocktake.metrics.estimate import Estimate
from stocktake.report.search import render_search
from stocktake.report.search_plots import draw_history, draw_slice, num_beyond, score_limits
from stocktake.report.search_text import describe_edges, describe_search, short_keys, show_duration
from stocktake.report.validations import Validations
from stocktake.tuning.importance import FANOVA, Importance, measure_importance
from stocktake.tuning.trials import SearchResult

pytestmark = pytest.mark.integration  # pages in a browser

USUAL = make_search()
COMMANDS = [("Train it", "python train.py experiment=demo_lr_dropout_best " + "x" * 300)]
SEARCHES = {
    "usual": USUAL,
    "ugly": make_search(make_ugly_space(), 200, "valid/loss", name="a-long-name-without-a-break" * 3),
    "two_parameters": make_search(LR_DROPOUT, test=Estimate(0.744, 0.71, 0.779)),
    "one_trial": make_search(num_trials=1),
    "none_complete": replace(USUAL, trials=[one for one in USUAL.trials if one.state != "complete"]),
    "no_trial": replace(USUAL, trials=[]),
    "all_equal": replace(USUAL, trials=[replace(one, score=one.score and 0.5) for one in USUAL.trials]),
    "costs": replace(USUAL, trials=[replace(one, cost_usd=0.25) for one in USUAL.trials]),
    "diverged": make_search(
        RECIPE, 40, "valid/loss", trials=[replace(USUAL.trials[0], number=99, score=1e9), *USUAL.trials]
    ),
}


def render(result: SearchResult, validations: Validations | None = None, **changes) -> str:
    keys = result.space.keys
    many = Importance({key: 1 / len(keys) for key in keys}, FANOVA)  # measured, 12 of 200 trials take ten seconds
    inputs = {
        "importance": many if len(keys) == 12 else measure_importance(result),
        "validations": validations or Validations(),
        "next_commands": COMMANDS,
        "command": "python train.py -m sweep=lr_dropout experiment=demo",
        "date": "2026-11-29",
    }
    return render_search(result, **(inputs | changes))


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html[html.index("<body>") :]))


def test_the_answer_comes_first_and_is_called_optimistic():
    best = USUAL.ranked[0]
    head = text_of(render(USUAL)).partition("What to type next")[0]
    assert f"Trial {best.number} of lr_dropout is the best: Exact count (accuracy) 78.6" in head
    assert "model.optimizer.lr 0.0004211" in head and "head smooth" in head
    assert "24 complete, 2 pruned, 3 failed, 1 running" in head
    assert "It is optimistic: the best of 24 trials&#39; best validations" in head
    assert "The test bins, which chose nothing, were not asked." in head and "On the test bins" not in head


def test_a_test_figure_stands_beside_it_only_where_it_was_measured():
    head = text_of(render(SEARCHES["two_parameters"])).partition("What to type next")[0]
    assert "On the test bins 74.4 %" in head and "interval 71.0–77.9 ; bins that chose nothing" in head
    assert "which chose nothing, it is 74.4 % (95 % interval 71.0–77.9)" in head


def test_intervals_and_who_would_win_again_stand_where_they_are_known():
    first, second, third = (trial.number for trial in USUAL.ranked[:3])
    intervals = {number: Estimate(0.78, 0.741, 0.822) for number in (first, second)}
    page = text_of(render(USUAL, Validations(intervals, 0.61, ["The evaluation of trial 9 is left out"])))
    assert "In 61 of 100 other draws of the validation bins it would again be the best" in page
    assert page.count("74.1–82.2") == 3  # the tile and two rows
    assert "where it was evaluated with split=valid" in page and "The evaluation of trial 9 is left out" in page
    assert "No interval is known: evaluate a trial with split=valid" in text_of(render(USUAL))
    assert third not in intervals


def test_failed_and_pruned_trials_stand_with_their_reasons():
    page = render(USUAL)
    part = text_of(page[page.index('<section id="troubles"') - 6 :].replace("<section", "<body><section", 1))
    assert "the process ended with 137 (killed) 7, 27" in part and "CUDA out of memory" in part
    assert "worse than the median of the others at validation 2 11, 23" in part


def test_what_it_took_adds_up():
    page = text_of(render(SEARCHES["costs"]))
    lasted = sum(300.0 + number for number in range(29))
    assert f"All trials together {show_duration(lasted)}" in page
    assert "Billed 7.50 USD" in page and "0.25 USD" in page
    some = [replace(trial, cost_usd=None) if trial.number > 9 else trial for trial in SEARCHES["costs"].trials]
    assert "Billed 2.50 USD, known of 10 of 30 trials" in text_of(render(replace(USUAL, trials=some)))


@pytest.mark.parametrize(
    ("name", "words", "sections"),
    [
        ("one_trial", "the only complete one", ["next", "best", "costs", "reproduce"]),
        (
            "none_complete",
            "No trial is complete (2 pruned, 3 failed, 1 running)",
            ["next", "troubles", "costs", "reproduce"],
        ),
        ("no_trial", "No trial is complete (none has begun)", ["next", "reproduce"]),
        ("all_equal", "have the same valid/accuracy, 50.0", None),
    ],
)
def test_odd_searches_say_what_they_are(name, words, sections):
    page = render(SEARCHES[name])
    assert words in text_of(page)
    if sections is not None:
        assert re.findall(r'<section id="([\w-]+)"', page) == sections
    if name == "all_equal":
        assert "Not known: All complete trials have the same score." in text_of(page)


def points_of(plot: str, color: str) -> list[tuple[float, float]]:
    """Returns where an `<svg>` has dots of a color."""
    used = [
        one for one in ElementTree.fromstring(plot).iter() if one.tag.endswith("use") and color in one.get("style", "")
    ]
    return [(float(one.get("x")), float(one.get("y"))) for one in used]


def test_the_history_has_a_mark_for_every_trial_that_ended_and_a_line_that_only_rises():
    plot = draw_history(USUAL)
    muted = points_of(plot, "stroke: var(--muted)")
    assert len(muted) == 24 + 2 and len(points_of(plot, "stroke: var(--record)")) == 3
    (line,) = re.findall(r'<path d="([^"]+)"[^>]*stroke: var\(--model\); stroke-width: 2', plot)
    heights = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", line)]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) > 1
    (best,) = points_of(plot, "fill: var(--ink)")
    assert best[1] == pytest.approx(min(heights), abs=0.01)


def test_a_diverged_trial_does_not_press_the_others_into_a_line():
    result = SEARCHES["diverged"]
    low, high = score_limits(result)
    others = [trial.score for trial in result.ranked if trial.number != 99]
    assert low < min(others) and high < 10 and num_beyond(result) == 1
    assert "1 score lies beyond the axis" in text_of(render(result))
    assert num_beyond(USUAL) == 0 and "beyond the axis" not in text_of(render(USUAL))


def test_a_logarithmic_parameter_has_a_logarithmic_axis():
    parameter = USUAL.space["model.optimizer.lr"]
    plot = draw_slice(USUAL, parameter)
    along = {round(x, 2) for x, _ in points_of(plot, "stroke: var(--model)") + points_of(plot, "fill: var(--ink)")}
    values = sorted(math.log(trial.values["model.optimizer.lr"]) for trial in USUAL.ranked)
    xs = sorted(along)
    assert len(xs) == len(values) == 24
    slope = (xs[-1] - xs[0]) / (values[-1] - values[0])
    assert xs == pytest.approx([xs[0] + slope * (value - values[0]) for value in values], abs=0.05)
    assert {"1e-05", "0.001", "0.01"} < set(re.findall(r"<text[^>]*>([^<]+)</text>", plot))


def test_a_best_value_at_an_end_of_its_range_is_told():
    best = USUAL.ranked[0]
    at_the_end = replace(best, values={**best.values, "model.drop_rate": 0.69})
    result = replace(USUAL, trials=[at_the_end if one is best else one for one in USUAL.trials])
    assert describe_edges(USUAL) == []
    assert describe_edges(result) == [
        "model.drop_rate=0.69 lies at the upper end of its range (0.0 to 0.7): if the key admits more, a better value "
        "may lie beyond."
    ]


def test_the_earlier_of_two_equal_trials_is_the_best_and_the_other_is_named():
    first, second = USUAL.ranked[:2]
    tied = replace(USUAL, trials=[replace(one, score=0.9) if one in (first, second) else one for one in USUAL.trials])
    best, other = sorted(trial.number for trial in (first, second))
    assert describe_search(tied)[0].endswith(f"higher is better. Trial {other} came later to the same.")
    assert tied.best.number == best and "comes next with 77.4" in describe_search(USUAL)[0]


def test_short_keys_are_as_long_as_they_must_be():
    assert short_keys(["model.optimizer.lr", "lr", "data.seed", "seed", "a.b.x", "c.b.x"]) == {
        "model.optimizer.lr": "optimizer.lr",
        "lr": "lr",
        "data.seed": "data.seed",
        "seed": "seed",
        "a.b.x": "a.b.x",
        "c.b.x": "c.b.x",
    }


@functools.cache
def rendered(name: str) -> str:
    return render(SEARCHES[name])


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize(("width_px", "color_scheme"), [(390, "dark"), (1280, "light")])
def test_nothing_touches_leaves_its_plot_or_is_cut(browser, tmp_path, name, width_px, color_scheme):
    with looked_at(browser, tmp_path, rendered(name), width_px, color_scheme) as page:
        found = ugliness(page)
        if width_px == 1280:  # there a wide table and a long command may be scrolled
            found.pop("cut", None)
        assert found == {}
        assert page.locator("section").count() == page.locator("nav a").count()


def test_each_row_on_a_phone_names_its_figures(browser, tmp_path):
    with looked_at(browser, tmp_path, render(USUAL), 390) as page:
        cell = page.locator("#best tbody tr").first.locator("td").first
        assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"Score"'
        assert cell.inner_text().startswith("78.6")


def test_what_was_typed_stays_text(browser, tmp_path):
    hostile = "<script>alert(1)</script>$x^2$"
    result = replace(SEARCHES["ugly"], name=hostile, fixed=[f"run_name={hostile}"], engine=hostile)
    with looked_at(browser, tmp_path, render(result, notes=[hostile]), 1280) as page:
        assert hostile in page.locator("h1").inner_text()
        assert hostile in page.locator("#slices svg").nth(1).text_content()

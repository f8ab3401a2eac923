"""The SVGs: what they say, that they take the page's colors, and that many of them fit into one page."""

import re
from xml.etree import ElementTree

import pytest

from stocktake.metrics.estimate import Estimate
from stocktake.report.plots import ROLES, draw_bars, draw_learning_curves, draw_reliability, draw_risk_coverage

SVG = "{http://www.w3.org/2000/svg}"


def texts(plot: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(plot).iter(f"{SVG}text")]


def shapes(plot: str, style: str) -> list[list[tuple[float, float]]]:
    """The points of each path that has this in its style."""
    paths = [path for path in ElementTree.fromstring(plot).iter(f"{SVG}path") if style in path.get("style", "")]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path.get("d"))] for path in paths]


def bar_sizes(plot: str) -> list[tuple[float, float]]:
    """Width and height of the shapes filled like a bar, from their own coordinates."""
    axes = [list(zip(*points, strict=True)) for points in shapes(plot, "fill: var(--heat)")]
    return [(max(x) - min(x), max(y) - min(y)) for x, y in axes]


def bar_heights(plot: str) -> list[float]:
    return [height for _, height in bar_sizes(plot)]


def test_bars_are_as_high_as_their_shares_and_say_their_values():
    plot = draw_bars({"1": Estimate(0.2, 0.1, 0.3), "2": Estimate(0.8, 0.7, 0.9)}, "Recall")
    low, high = bar_heights(plot)
    assert high / low == pytest.approx(4, rel=1e-3)
    assert "20\u202f%" in texts(plot) and "80\u202f%" in texts(plot)
    assert ElementTree.fromstring(plot).get("aria-label") == "Recall. count 1: 20\u202f%, count 2: 80\u202f%."


def test_a_bar_without_a_value_says_so():
    plot = draw_bars({"1": Estimate(None, None, None), "2": Estimate(0.5, None, None)}, "Precision")
    assert "n/a" in texts(plot)
    assert bar_heights(plot)[0] == pytest.approx(0, abs=1e-6)


def test_colors_fonts_and_styles_come_from_the_page():
    plot = draw_bars({"1": Estimate(0.5, 0.4, 0.6)}, "F1")
    assert set(re.findall(r"var\(--(\w+)\)", plot)) >= {"ink", "line", "muted", "model", "heat"}
    assert not re.findall(r"#[0-9a-f]{6}\b", plot)
    assert "font-family" not in plot and "<style" not in plot and "<metadata" not in plot
    assert len(set(ROLES.values())) == len(ROLES)


def test_ids_of_two_plots_differ_and_every_reference_has_its_target():
    plots = [draw_bars({"1": Estimate(0.5, 0.4, 0.6)}, title) for title in ("Precision", "Recall")]
    ids = [re.findall(r' id="([^"]+)"', plot) for plot in plots]
    assert ids[0] and not set(ids[0]) & set(ids[1])
    for plot, own in zip(plots, ids, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', plot)) == set(own)


def test_the_same_numbers_give_the_same_bytes():
    estimates = {"1": Estimate(0.5, 0.4, 0.6)}
    assert draw_bars(estimates, "F1") == draw_bars(estimates, "F1")


def test_learning_curves_group_sparse_rows_by_measure():
    plots = draw_learning_curves(
        [
            {"epoch": 0, "step": 10, "train/loss": 2.0, "lr": 1e-3},
            {"epoch": 0, "step": 20, "train/loss": 1.5, "lr-Adam": 1e-3},
            {"epoch": 0, "step": 20, "valid/loss": 1.75, "valid/accuracy": 0.3, "train/loss": None},
            {"epoch": 1, "step": 40, "valid/loss": 1.25, "valid/accuracy": 0.4, "valid/other": 3.0},
            {"epoch": 2, "step": 60, "valid/loss": float("nan"), "valid/accuracy": float("nan")},
        ]
    )
    assert list(plots) == ["Loss", "Exact count (accuracy)", "Learning rate"]
    label = ElementTree.fromstring(plots["Loss"]).get("aria-label")
    assert "train/loss goes from 2 to 1.5 by step 20" in label
    assert "valid/loss goes from 1.75 to 1.25 by step 40" in label


def test_learning_curves_run_along_epochs_where_there_are_no_steps():
    plots = draw_learning_curves([{"epoch": 0, "valid/rmse": 1.2}, {"epoch": 1, "valid/rmse": 1.1}])
    assert "epoch" in texts(plots["RMSE, in items"])


def test_an_empty_history_gives_no_plots():
    assert draw_learning_curves([]) == {}


def test_a_row_without_step_and_epoch_is_refused():
    with pytest.raises(ValueError, match=r"history\[1\] has no 'step'.*Give every row"):
        draw_learning_curves([{"step": 1, "train/loss": 1.0}, {"train/loss": 0.9}])


def test_bars_of_reliability_are_as_high_as_right_as_wide_as_many_and_leave_out_the_empty():
    plot = draw_reliability([None, 0.3, 0.6, 0.9], [None, 0.2, 0.4, 0.0], [0, 60, 20, 1], "As trained")
    (wide, low), (narrow, high), (_, none) = bar_sizes(plot)
    assert wide / narrow == pytest.approx(3, rel=1e-3)
    assert high / low == pytest.approx(2, rel=1e-3)
    assert none == pytest.approx(0, abs=1e-6)
    words = "As trained. says 30 %: right on 20 % of 60, says 60 %: right on 40 % of 20, says 90 %: right on 0 % of 1."
    assert ElementTree.fromstring(plot).get("aria-label").replace("\u202f", " ") == words


def test_the_diagonal_of_reliability_runs_where_both_shares_are_equal():
    plot = draw_reliability([0.25, 0.75], [0.25, 0.75], [10, 10], "As trained")
    (diagonal,) = shapes(plot, "stroke-dasharray")
    (x0, y0), (x1, y1) = diagonal[0], diagonal[-1]
    for bar in shapes(plot, "fill: var(--heat)"):  # both are exactly as often right as they say
        middle, top = sum({x for x, _ in bar}) / 2, min(y for _, y in bar)
        assert top == pytest.approx(y0 + (middle - x0) / (x1 - x0) * (y1 - y0), abs=0.01)


def test_the_risk_curve_passes_through_its_points_and_says_the_marked_ones():
    answered, wrong = [0.25, 0.5, 1.0], [0.0, 0.9, 0.5]
    plot = draw_risk_coverage(answered, wrong, [2, 1], "With a person")
    (points,) = [points for points in shapes(plot, "stroke: var(--model); stroke-width: 2") if len(points) == 3]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert (x2 - x1) / (x1 - x0) == pytest.approx(0.5 / 0.25, rel=1e-3)
    assert (y2 - y0) / (y1 - y0) == pytest.approx(0.5 / 0.9, rel=1e-3)
    label = ElementTree.fromstring(plot).get("aria-label").replace("\u202f", " ")
    assert label == "With a person. answers 100 %: wrong on 50 %, answers 50 %: wrong on 90 %."
    assert texts(plot).count("50\u202f%") == 1 and texts(plot).count("90\u202f%") == 1


@pytest.mark.parametrize(
    ("plot", "labels"),
    [
        (draw_reliability([0.5], [0.5], [1], "As trained"), ["how sure it says it is", "how often it is right"]),
        (
            draw_risk_coverage([1.0], [0.5], [0], "With a person"),
            ["share of bins it answers, surest first", "how often it is wrong"],
        ),
    ],
)
def test_both_axes_are_labelled(plot, labels):
    assert set(labels) < set(texts(plot))
    assert {"0", "50", "100\u202f%"} < set(texts(plot))

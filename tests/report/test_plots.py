"""The SVGs: what they say, that they take the page's colours, and that many of them fit into one page."""

import re
from xml.etree import ElementTree

import pytest

from stocktake.report.plots import ROLES, draw_bars, draw_learning_curves
from stocktake.report.wording import Estimate

SVG = "{http://www.w3.org/2000/svg}"


def texts(plot: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(plot).iter(f"{SVG}text")]


def bar_heights(plot: str) -> list[float]:
    """Heights of the shapes filled like a bar, from their own coordinates."""
    paths = [
        path for path in ElementTree.fromstring(plot).iter(f"{SVG}path") if "fill: var(--heat)" in path.get("style")
    ]
    ys = [[float(y) for _, y in re.findall(r"[ML] (\S+) (\S+)", path.get("d"))] for path in paths]
    return [max(y) - min(y) for y in ys]


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


def test_colours_fonts_and_styles_come_from_the_page():
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

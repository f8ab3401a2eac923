"""The page of a search: the mark stands where the suggestion is, and the commands can be copied."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from stocktake.report.tuning import draw_batch_rates, draw_losses, render_tuning
from stocktake.tuning.finding import Finding

SVG = "{http://www.w3.org/2000/svg}"


def paths(plot: str, style: str) -> list[list[tuple[float, float]]]:
    found = [path for path in ElementTree.fromstring(plot).iter(f"{SVG}path") if style in path.get("style", "")]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path.get("d"))] for path in found]


def texts(plot: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(plot).iter(f"{SVG}text")]


def test_the_axis_of_the_rates_is_logarithmic_and_the_suggestion_marked_on_it():
    plot = draw_losses([1e-5, 1e-4, 1e-3, 1e-2], [2.1, 1.8, 1.6, 1.3], [2.0, 1.9, 1.5, 1.4], 1e-3)
    (curve,) = [points for points in paths(plot, "stroke: var(--model); stroke-width: 2") if len(points) == 4]
    steps = [right[0] - left[0] for left, right in pairwise(curve)]
    assert steps == pytest.approx([steps[0]] * 3, rel=1e-3)
    (line,) = paths(plot, "stroke-dasharray")
    assert [x for x, _ in line] == pytest.approx([curve[2][0]] * len(line), abs=0.01)
    assert "0.001" in texts(plot) and {"learning rate", "loss"} < set(texts(plot))
    assert ElementTree.fromstring(plot).get("aria-label") == (
        "Loss by learning rate: from 2 at 1e-05 down to 1.4; 0.001 is suggested."
    )


def test_nothing_is_marked_where_nothing_was_found():
    plot = draw_losses([1e-3, 1e-2], [2.0, 3.0], [2.0, 3.0], None)
    assert paths(plot, "stroke-dasharray") == []
    finding = Finding("model.optimizer.lr", None, ["Nothing."], [{"lr": 1e-3, "loss": 2.0, "smoothed": 2.0}])
    page = render_tuning("demo", finding, [])
    assert "<h1>No model.optimizer.lr for demo</h1>" in page and "type next" not in page


def test_the_suggested_batch_is_marked():
    rows = [{"batch_size": size, "images_per_s": rate} for size, rate in ((4, 10.0), (8, 19.0), (16, 20.0))]
    plot = draw_batch_rates(rows, 8)
    (curve,) = [points for points in paths(plot, "stroke: var(--model); stroke-width: 2") if len(points) == 3]
    (line,) = paths(plot, "stroke-dasharray")
    assert line[0][0] == pytest.approx(curve[1][0], abs=0.01)
    label = "Images a second by batch size: 10 at 4, 19 at 8, 20 at 16; 8 is suggested."
    assert ElementTree.fromstring(plot).get("aria-label") == label


def test_the_page_says_what_was_found_and_escapes_what_was_typed():
    rows = [{"lr": 1e-4, "loss": 2.0, "smoothed": 1.9}, {"lr": 1e-3, "loss": 1.5, "smoothed": 1.6}]
    finding = Finding("model.optimizer.lr", 0.001, ["It falls fastest there.", "In 2 steps."], rows)
    page = render_tuning("demo", finding, ["python train.py 'name=<b>'"])
    assert "<h1>model.optimizer.lr=0.001 for demo</h1>" in page
    assert '<p class="verdict">It falls fastest there.</p>' in page
    assert "<td>0.0001</td><td>2</td>" in page
    assert "name=&lt;b&gt;" in page and "<b>&#39;" not in page and "name=<b>" not in page
    assert page.count("<svg") == 1 and "://" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", page)

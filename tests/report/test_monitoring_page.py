"""The page of a monitored window, with numbers that can be looked up, and in a real browser."""

import re
from dataclasses import replace

import pytest
from looked_at import looked_at, ugliness

from stocktake.metrics.drift import Shift
from stocktake.metrics.estimate import Estimate
from stocktake.monitoring.monitoring_result import FeedbackResult, Histogram, MonitoredFigure, MonitoringResult
from stocktake.report.monitoring import render_monitoring

HOSTILE = "<script>alert(1)</script>&\"'"
QUIET, MOVED = Shift(0.01, 0.1, 0.02, 0.1, 0.03, 0.2), Shift(0.45, 0.1, 0.31, 0.1, 0.62, 0.2)
BRIGHTNESS = Histogram([0, 100, 200], [0.25, 0.75], [0.6, 0.4])
COUNTS = Histogram([0.5, 1.5, 2.5], [0.5, 0.5], [0.45, 0.55])


def make_result(**changes) -> MonitoringResult:
    result = MonitoringResult(
        created="2026-03-09T06:00:00+00:00",
        model=f"runs/{HOSTILE}",
        model_version="bins-1",
        log=f"log/{HOSTILE}",
        first="2026-03-02T06:00:00.000+00:00",
        last="2026-03-09T05:59:59.000+00:00",
        num_requests=1_020,
        num_answers=1_000,
        num_baseline=887,
        num_damaged=0,
        damaged=[],
        num_dropped=0,
        other_models={},
        false_alarms=0.01,
        figures={
            "count": MonitoredFigure(QUIET, 1.5, 1.55, 1000, COUNTS),
            "brightness": MonitoredFigure(QUIET, 137.5, 90.0, 1000, BRIGHTNESS),
        },
        expected_accuracy=Estimate(0.61, 0.58, 0.64),
        baseline_accuracy=Estimate(0.62, 0.59, 0.65),
        latency_s={"p50": 0.031, "p95": 0.08, "p99": 0.12},
        statuses={200: 1000, 422: 20},
        reasons={"image-size": 20},
        error_share=Estimate(0.0196, 0.013, 0.030),
        alarms=[],
    )
    return replace(result, **changes)


def drifted(**changes) -> MonitoringResult:
    figures = dict(make_result().figures)
    figures["brightness"] = replace(figures["brightness"], shift=MOVED)
    alarms = ["1 of 2 figures have moved further than chance: Brightness."]
    return make_result(figures=figures, alarms=alarms, **changes)


FEEDBACK = FeedbackResult(
    50, 40, Estimate(0.75, 0.6, 0.86), Estimate(0.8, 0.7, 0.9), 0.111, 0.088, "recalibration.json"
)


def test_a_quiet_window_says_so_and_shows_the_figures_of_its_json():
    page = render_monitoring(make_result(), "python scripts/monitor.py log=a")
    assert "<h1>Quiet: bins-1</h1>" in page and "Nothing has moved further than chance" in page
    assert all(
        shown in page for shown in ("61.0\u202f%", "58.0–64.0", "62.0\u202f%", "120 ms", "31 ms", "1,000", "887")
    )
    assert "image-size" in page and "422" in page
    assert "python scripts/monitor.py log=a" in page and "True counts" not in page
    assert "moved</b>" not in page and HOSTILE not in page


def test_what_has_moved_stands_first_with_its_limits():
    page = render_monitoring(drifted())
    assert "<h1>Drift: bins-1</h1>" in page and "1 of 2 figures have moved" in page
    table = page[page.index('aria-label="Table of figures"') :]
    assert re.findall(r'<th scope="row">(\w[^<]*)</th>', table)[:2] == ["Brightness", "Most likely count"]
    assert "0.450" in table and "limit 0.100" in table and "137.5" in table
    assert "of others the model&#39;s own word may be worth nothing" in page


def test_an_alarm_that_is_no_drift_is_called_so():
    assert "<h1>Alarm: bins-1</h1>" in render_monitoring(make_result(alarms=["12 % of the requests got no count."]))


def test_what_is_left_out_is_told():
    page = render_monitoring(
        make_result(num_damaged=3, damaged=["a.jsonl:7 is no answer"], num_dropped=12, other_models={"older": 5, "": 2})
    )
    assert "Damaged lines of the log that are left out: 3, such as a.jsonl:7" in page
    assert "12 answers are missing" in page and "5 of older, 2 of no model" in page


def test_true_counts_have_a_section_and_the_first_tile():
    page = render_monitoring(make_result(feedback=FEEDBACK, latency_s=dict.fromkeys(("p50", "p95", "p99"))))
    assert page.index("Live accuracy") < page.index("Expected accuracy")
    assert all(
        shown in page for shown in ("75.0\u202f%", "by chance 0.088", "0.111", "recalibration.json", "not logged")
    )


@pytest.mark.parametrize("width_px", [390, 1280])
def test_the_page_fits_the_screen(browser, tmp_path, width_px):
    result = drifted(feedback=FEEDBACK)
    figures = dict(result.figures)
    for name, ends in {"width": (1_000, 9_000), "strap_density": (0, 0.0175), "sharpness": (0, 1_234_567)}.items():
        edges = [ends[0] + (ends[1] - ends[0]) * part / 20 for part in range(21)]
        figures[name] = replace(figures["count"], histogram=Histogram(edges, [0.05] * 20, [0.05] * 20))
    page = render_monitoring(replace(result, figures=figures), "python scripts/monitor.py " + "log=a" * 60)
    with looked_at(browser, tmp_path, page, width_px) as shown:
        found = ugliness(shown)
        if width_px == 1280:  # there a long command may be scrolled
            found.pop("cut", None)
        assert found == {}
        assert shown.locator("figure svg").count() == 5
        cell = shown.locator("#moved tbody td").nth(3)
        assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == (
            '"PSI"' if width_px == 390 else "none"
        )

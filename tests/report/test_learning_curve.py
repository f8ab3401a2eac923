"""The page on what more training bins bring, with numbers that can be worked out by hand, and in a real browser."""

import re
from dataclasses import replace

import pytest

from stocktake.evaluation.learning_curve_result import (
    CurvePoint,
    FittedForm,
    LearningCurve,
    MetricCurve,
    SizedEvaluation,
)
from stocktake.metrics.scaling_law import Curve, Form, forms
from stocktake.report.learning_curve import render_learning_curve

HOSTILE = "<script>alert(1)</script>&\"'"


def make_point(num_train_bins: float, value: float, margin: float, is_share: bool) -> CurvePoint:
    interval = (value - margin, value + margin)
    return CurvePoint(num_train_bins, value, interval, is_share, curve_interval=interval)


def make_metric(
    values: list[float], far: list[float], slope: float = 0.1, slope_margin: float = 0.05, is_share: bool = True
) -> MetricCurve:
    def fitted(form: Form, at_far: float) -> FittedForm:
        fit = Curve(form, b=1.0, c=slope, c_interval=(slope - slope_margin, slope + slope_margin), scatter=0.0)
        asked = [(10_000, values[-1]), (260_000, at_far)]
        return FittedForm(
            fit,
            predicted=[make_point(n, value, 0.05, is_share) for n, value in asked],
            drawn=[make_point(1000 * 1.1**i, values[0], 0.03, is_share) for i in range(59)],
        )

    return MetricCurve(
        [make_point(n, value, 0.03, is_share) for n, value in zip((1000, 2000, 4000), values, strict=True)],
        [fitted(form, value) for form, value in zip(forms(0.4), far, strict=True)],
    )


def make_curve(**changes) -> LearningCurve:
    sizes = (1000, 2000, 4000)
    curve = LearningCurve(
        split="test",
        num_images=804,
        num_blocks=63,
        manifest_sha256="f" * 64,
        counts=[1, 2, 3, 4, 5],
        evaluations=[SizedEvaluation(f"runs/{HOSTILE}/{n}", "best.ckpt", n) for n in sizes],
        extrapolation={10_000: 2.5, 260_000: 65.0},
        metrics={
            "accuracy": make_metric([0.30, 0.35, 0.40], [0.60, 0.53, 0.67]),
            "rmse_expected": make_metric([1.2, 1.1, 1.0], [0.5, 0.75, 0.2], is_share=False),
        },
        created="2026-11-22T12:00:00+00:00",
    )
    return replace(curve, **changes)


PUBLISHED = [{"num_train_bins": 10_000, "accuracy": 0.35}, {"num_train_bins": 260_000, "accuracy": 0.56}]


def render(curve: LearningCurve, published=PUBLISHED) -> str:
    command = "python scripts/learning_curve.py " + "x" * 300
    return render_learning_curve(curve, command, "counts 0 to 5, split at random", published)


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("\u202f", " ").split())


def test_the_answer_and_its_warning_come_first():
    text = text_of(render(make_curve()).partition("<main>")[0])
    assert "30.0 % with 1,000 training bins, 40.0 % with 4,000." in text
    # 2^-0.1 = 0.933, 2^-0.05 = 0.966, 2^-0.15 = 0.901
    assert "Each doubling changes the error by −6.7 % (−3.4 to −9.9)." in text
    assert "A run on 10,000 would come out at about 40.0 % (95 % interval 35.0–45.0)." in text
    assert "A run on 260,000" not in text
    assert "260,000 bins are 65 times as many as the largest measured number" in text
    assert "60.0 %, 53.0 % or 67.0 %" in text
    assert "span a factor of 4.0" in text


def test_no_warning_where_nothing_is_far():
    page = render(make_curve(extrapolation={10_000: 2.5, 260_000: 9.9}))
    assert 'class="caution"' not in page
    assert "A run on 260,000 would come out at about" in page


def test_a_slope_that_may_be_none_is_said():
    flat = make_metric([0.30, 0.35, 0.40], [0.6, 0.53, 0.67], slope=0.01)
    page = render(make_curve(metrics={"accuracy": flat}))
    assert "these evaluations do not show that more bins help" in page
    assert "do not show" not in render(make_curve())


def test_other_bins_than_test_are_warned_of():
    assert "The model was trained on these bins" in render(make_curve(split="train"))


def test_published_points_are_named_as_another_task():
    page = text_of(render(make_curve()))
    assert "another task: counts 0 to 5, split at random" in page
    without = text_of(render(make_curve(), published=[]))
    assert "another task" not in without and "published by others" not in without


def test_what_comes_from_data_is_escaped():
    assert "<script>" not in render(make_curve())


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [390, 1280])
def test_in_a_browser(browser, tmp_path, width_px, color_scheme):
    file = tmp_path / "learning_curve.html"
    file.write_text(render(make_curve()), encoding="utf-8")
    page = browser.new_context(viewport={"width": width_px, "height": 844}, color_scheme=color_scheme).new_page()
    requests, troubles = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: troubles.append(message.text))
    page.goto(file.as_uri())
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert {url for url in requests if not url.startswith("data:")} == {file.as_uri()}
    assert troubles == []
    ink = page.evaluate("getComputedStyle(document.body).color")
    strokes = "[...document.querySelectorAll('svg path')].map(path => getComputedStyle(path).stroke)"
    assert ink in page.evaluate(strokes)
    page.context.close()

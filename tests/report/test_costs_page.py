"""The page of what jobs did cost, with numbers that can be worked out, and in a real browser."""

from datetime import date

import pytest

from stocktake.cloud.costs import CostTotal, JobCost
from stocktake.report.costs import NUM_DRAWN, render_costs

HOSTILE = "<script>alert(1)</script>&\"'"
TODAY = date(2026, 11, 29)


def job(name: str = "public", usd_per_hour: float | None = 1.5, **values) -> JobCost:
    day = "2026-11-01" if usd_per_hour else None
    figures = {"experiment": "demo", "status": "Completed", "instance_type": "ml.g5.xlarge", "num_instances": 1}
    figures |= {"is_spot": True, "training_s": 3738, "billable_s": 1422, "price_day": day, "price_source": "as typed"}
    return JobCost(name, usd_per_hour=usd_per_hour, **(figures | values))


def page_of(*costs: JobCost) -> str:
    totals = {"Experiments": [CostTotal.of(HOSTILE, costs)], "Sweeps": []}
    return render_costs(costs, totals, CostTotal.of("all", costs), f"python scripts/cost.py {HOSTILE}", TODAY)


def test_it_shows_what_was_paid_and_saved():
    page = page_of(job(), job("failed", status="Failed"))
    assert "<h1>2 jobs for 1.19 USD</h1>" in page  # 2 x 1,422 s at 1.50 USD an hour
    for shown in (
        "62.0\u202f%",
        "1.93 USD, of 3.1",
        "7,476 seconds, and 2,844 of them were billed",
        ">Failed<",
        "0.59",
    ):
        assert shown in page, shown
    assert "Sweeps" not in page and "caution" not in page.partition("<body>")[2]
    assert HOSTILE not in page and "&lt;script&gt;" in page


def test_what_is_old_or_not_known_is_said():
    page = page_of(job(price_day="2023-12-31"), job("other", usd_per_hour=None))
    assert "1 of 2 jobs have no known price" in page
    assert "The oldest price is of 2023-12-31, 1,064 days ago" in page
    assert "2 jobs, price not known" not in page
    assert "<h1>1 job, price not known</h1>" in page_of(job(usd_per_hour=None))


def test_of_many_jobs_the_dearest_are_drawn_and_all_are_listed():
    costs = [job(f"job-{number}", billable_s=100 + number) for number in range(NUM_DRAWN + 3)]
    page = page_of(*costs)
    assert f"The {NUM_DRAWN} of {NUM_DRAWN + 3} jobs" in page
    drawn = page[page.index("<svg") : page.index("</svg>")]
    assert "job-14" in drawn and "job-2:" not in drawn and "job-2" in page


@pytest.mark.parametrize("width_px", [390, 1280])
def test_the_page_fits_the_screen(browser, tmp_path, width_px):
    path = tmp_path / "costs.html"
    path.write_text(page_of(job("a-job-with-a-name-as-long-as-sagemaker-takes-them-1129-051340-17"), job(HOSTILE)))
    page = browser.new_page(viewport={"width": width_px, "height": 900})
    try:
        page.goto(f"file://{path}")
        assert page.evaluate("document.documentElement.scrollWidth") == width_px
        assert page.locator("figure svg").count() == 1
    finally:
        page.close()

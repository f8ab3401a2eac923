"""Where a model errs, in words: a slice is named only if it is clearly worse, and what is missing is said."""

import re
from dataclasses import replace

import pytest
from evaluation_results import estimate

from stocktake.evaluation.evaluation_result import Slice
from stocktake.metrics.estimate import Estimate
from stocktake.report.html import TEMPLATES
from stocktake.report.slices import NO_PRODUCTS, NONE_STANDS_OUT, describe_slices

NUM_BINS = 400
OVERALL = Estimate(0.4, 0.36, 0.44)


def part(low: float, high: float, accuracy: float | None, rest: float | None = 0.42, num_images: int = 200) -> Slice:
    figures = estimate(accuracy, 0.05), estimate(0.81, 0.05, is_share=False), estimate(rest, 0.05)
    return Slice(low, high, num_images, 3.25, *figures)


@pytest.fixture
def slices() -> dict[str, list[Slice]]:
    return {
        "brightness": [part(61.2, 92.4, 0.38), part(92.5, 130.6, 0.42)],
        "sharpness": [part(3.4, 198.2, 0.30), part(198.3, 1175.7, 0.45, 0.30)],
        "strap_density": [part(0.0, 0.0884, 0.33), part(0.0886, 0.2182, 0.41)],
        "num_products": [part(1, 1, 0.5, 0.3, 100), part(2, 2, 0.38, num_images=100), part(3, 5, 0.36)],
    }


def words(slices: dict[str, list[Slice]]) -> str:
    return " ".join(describe_slices(slices, OVERALL, NUM_BINS)["sentences"]).replace("\u202f", " ")


def test_the_worst_slice_is_named_with_its_limits_and_both_intervals(slices):
    assert words(slices) == (
        "It errs most where the photo is this sharp: 3–198 (variance of the Laplacian, low is blurred). Of those "
        "200 bins 30.0 % are exact (95 % interval 25.0–35.0), of the others 42.0 % (37.0–47.0)."
    )


def test_no_slice_is_named_where_the_intervals_touch(slices):
    slices["sharpness"][0] = part(3.4, 198.2, 0.33)  # to 0.38, and the rest is from 0.37 on
    assert words(slices) == NONE_STANDS_OUT


def test_a_slice_that_is_worse_by_chance_does_not_hide_one_that_is_clearly_worse(slices):
    slices["strap_density"][0] = replace(slices["strap_density"][0], accuracy=Estimate(0.28, 0.1, 0.5))
    assert "this sharp: 3–198" in words(slices)


def test_a_handful_of_bins_makes_no_headline(slices):
    slices["num_products"][0] = part(1, 1, 0.0, 0.9, num_images=7)
    assert "this sharp: 3–198" in words(slices)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("brightness", "where the photo is this bright: 61–92 (mean luma, 0 to 255). Of those"),
        ("strap_density", "where 0.0–8.8 % of the pixels lie on the net's threads. Of those"),
        ("num_products", "where the record lists 1 distinct products. Of those"),
    ],
)
def test_every_feature_has_its_own_words(slices, name, sentence):
    slices[name][0] = replace(slices[name][0], accuracy=estimate(0.2, 0.05), rest_accuracy=estimate(0.4, 0.05))
    assert sentence in words(slices)


@pytest.mark.parametrize("missing", ["accuracy", "rest_accuracy"])
def test_without_an_interval_nothing_stands_out(slices, missing):
    slices["sharpness"][0] = replace(slices["sharpness"][0], **{missing: estimate(None)})
    assert words(slices) == NONE_STANDS_OUT


def test_slices_are_labelled_with_their_limits_and_number_of_bins(slices):
    plots = describe_slices(slices, OVERALL, NUM_BINS)["plots"]
    assert list(plots) == ["Brightness", "Sharpness", "Strap density", "Distinct products"]
    labels = {title: re.findall(r">([^<>]+)</text>", plot) for title, plot in plots.items()}
    assert {"61–92", "92–131"} < set(labels["Brightness"])
    assert {"3–198", "198–1,176"} < set(labels["Sharpness"])
    assert {"0.0–8.8", "8.9–21.8"} < set(labels["Strap density"])
    assert {"1", "2", "3–5", "100 bins"} < set(labels["Distinct products"])
    assert "products in the record 3–5, 200 bins: 36" in plots["Distinct products"]


def test_the_dashed_line_is_at_the_accuracy_of_all_bins():
    plots = describe_slices({"brightness": [part(61, 92, 0.4), part(93, 130, 0.4)]}, OVERALL, NUM_BINS)["plots"]
    (line,) = re.findall(r'd="M [\d.]+ ([\d.]+) \nL [\d.]+ ([\d.]+) \n"[^>]*stroke-dasharray', plots["Brightness"])
    bars = re.findall(r'd="([^"]+)"[^>]*fill: var\(--heat\)', plots["Brightness"])
    tops = [min(float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", bar)) for bar in bars]
    assert [float(y) for y in line] == pytest.approx(tops, abs=0.01)


def test_products_that_no_record_tells_are_asked_for(slices):
    del slices["num_products"]
    assert words(slices).endswith(NO_PRODUCTS) and "scripts/prepare.py" in NO_PRODUCTS


def test_bins_without_a_record_are_counted(slices):
    del slices["num_products"][1]
    assert words(slices).endswith("By products, 100 bins are in no slice: their record is missing.")


def test_the_table_holds_accuracy_distance_and_mean_count(slices):
    html = TEMPLATES.get_template("sections.html.j2").module.slices(**describe_slices(slices, OVERALL, NUM_BINS))
    row = html[html.index("3–198</th>") :]
    assert re.findall(r">([\d.–]+)", row[: row.index("</tr>")].replace("\u202f%", "")) == [
        "200",
        "3.25",
        "30.0",
        "25.0–35.0",
        "0.81",
        "0.76–0.86",
    ]

"""The page of an evaluation: what it says, what it survives, and how it behaves in a real browser."""

import base64
import io
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy
import pytest
from evaluation_results import estimate, make_result, make_subject, of
from PIL import Image
from sklearn.metrics import average_precision_score

from stocktake.evaluation.evaluation_result import Baseline, CountScores, EvaluationResult, Slice
from stocktake.metrics.definitions import PER_COUNT_METRICS
from stocktake.report.bins import (
    NUM_PRODUCTS_SHOWN,
    THUMBNAIL_PX,
    BinPrediction,
    make_thumbnail,
    rank_predictions,
    tempered,
)
from stocktake.report.html import Run, render_evaluation
from stocktake.report.text import describe_result

HOSTILE = "<script>alert(1)</script>"
LONG = "a-very-long-identifier-without-a-break" * 4


def make_metrics(**subject) -> EvaluationResult:
    """A plausible result about counts 1..3; its confusion matrix is that of make_predictions."""
    return make_result(subject=make_subject(checkpoint=f"runs/{HOSTILE}/best.ckpt", **subject))


def make_predictions() -> list[BinPrediction]:
    return [
        BinPrediction("00001", 1, 1, [0.9, 0.1, 0.0]),
        BinPrediction("00002", 1, 1, [0.6, 0.3, 0.1]),
        BinPrediction("00003", 1, 1, [0.9, 0.05, 0.05]),
        BinPrediction(HOSTILE, 1, 2, [0.02, 0.97, 0.01]),
        BinPrediction("00005", 2, 1, [0.5, 0.4, 0.1]),
        BinPrediction("00006", 2, 2, [0.2, 0.5, 0.3]),
        BinPrediction("00007", 2, 2, [0.1, 0.8, 0.1]),
        BinPrediction(LONG, 2, 3, [0.1, 0.2, 0.7]),
        BinPrediction("00009", 3, 3, [0.0, 0.01, 0.99]),
        BinPrediction("00010", 3, 3, [0.1, 0.3, 0.6]),
    ]


def make_records() -> dict[str, list[tuple[str | None, int]]]:
    return {
        HOSTILE: [(f"Cable & {HOSTILE}", 1), (LONG, 24), (None, 3)],
        "00005": [(f"Product {number}", number) for number in range(1, NUM_PRODUCTS_SHOWN + 3)],
        LONG: [],
    }


def make_slices() -> dict[str, list[Slice]]:
    def part(low: float, high: float) -> Slice:
        return Slice(low, high, 250, 2.5, estimate(0.37), estimate(0.8, is_share=False), estimate(0.38))

    ends = [0.05, 0.11, 0.13, 0.15, 0.22]
    return {
        name: [part(scale * low, scale * high) for low, high in itertools.pairwise(ends)]
        for name, scale in {"brightness": 1000, "sharpness": 5000, "strap_density": 1}.items()
    }


def make_jpeg(width: int = 400, height: int = 300) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (150, 120, 60)).save(file, "JPEG")
    return file.getvalue()


def make_history() -> list[dict]:
    return [{"epoch": epoch, "step": 10 * epoch, "train/loss": 2 - epoch / 10, "lr": 1e-3} for epoch in range(9)]


def make_run() -> Run:
    return Run(
        name="resnet50",
        config=f"seed: 1\npath: {HOSTILE}\n" + "long: " + "x" * 400,
        versions={"torch": "2.15.0"},
        hardware="2 x EPYC",
        command="python scripts/evaluate.py checkpoint=" + "x" * 300,
    )


def render(**changes) -> str:
    inputs = {
        "result": make_metrics(),
        "predictions": make_predictions(),
        "read_image": lambda image_id: make_jpeg(),
        "history": make_history(),
        "run": make_run(),
    }
    return render_evaluation(**(inputs | changes))


@pytest.fixture(scope="module")
def html() -> str:
    return render()


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_head_gives_the_result_its_interval_and_the_baseline(html):
    page = Page(html)
    head = page.text[: page.text.index("Higher is better")]
    for part in (
        "resnet50 counts 37.2 % of 1,000 test bins exactly",
        "34.2–40.2",
        "always answering 2: 25.5 %",
        "1.11",
    ):
        assert part in head
    assert "On 37 of 100 bins the count is exact, and on 82 it is at most one off." in head
    assert "between 34 and 40 of 100 (95 % interval, over 210 blocks of neighboring bins)" in head
    assert "would be exact on 26: the model is clearly better." in head
    assert "No person counted these bins" in head


def test_sections_stand_in_the_order_of_a_person_in_a_hurry(html):
    page = Page(html)
    names = ["measures", "confusion", "per-count", "learning", "mistakes", "hits", "reproduce"]
    assert [section["id"] for section in page.all("section")] == names
    assert [link["href"] for link in page.all("a")] == [f"#{name}" for name in names]
    assert len(page.all("h1")) == 1 and len(page.all("h2")) == len(names)


def test_calibration_adds_one_section_and_nothing_else(html, calibration):
    longer = render(result=replace(make_metrics(), calibration=calibration))
    page = Page(longer)
    names = [section["id"] for section in page.all("section")]
    assert names[names.index("per-count") + 1] == "certainty" and names[names.index("learning") - 1] == "certainty"
    assert "and name 2.4 of the 3 counts" in page.text
    longer, num_links = re.subn(r'<li><a href="#certainty">.*?</li>\n', "", longer)
    longer, num_sections = re.subn(r'<section id="certainty".*?</section>\n', "", longer, flags=re.DOTALL)
    assert (num_links, num_sections) == (1, 1)
    bins = r'<section id="(mistakes|hits)".*?</section>\n'  # their probabilities are calibrated, too
    longer, html = (re.sub(bins, "", page, flags=re.DOTALL) for page in (longer, html))
    assert longer == html


def test_single_bins_have_calibrated_probabilities(calibration):
    text = Page(render(result=replace(make_metrics(), calibration=calibration))).text
    softer = [p ** (1 / calibration.temperature) for p in (0.02, 0.97, 0.01)]
    assert f"P(2) {100 * softer[1] / sum(softer):.0f} %" in text
    assert "no calibration" not in text and "no calibration" in Page(render()).text


def test_slices_add_one_section_and_nothing_else(html):
    longer = render(result=replace(make_metrics(), slices=make_slices()))
    names = [section["id"] for section in Page(longer).all("section")]
    assert names[names.index("slices") + 1] == "learning"
    longer = re.sub(r'<li><a href="#slices">.*?</li>\n', "", longer)
    assert re.sub(r'<section id="slices".*?</section>\n', "", longer, flags=re.DOTALL) == html


def test_a_mistake_stands_beside_what_its_record_lists():
    html = render(records=make_records())
    mistakes = html[html.index('<section id="mistakes"') : html.index('<section id="hits"')]
    page = Page(mistakes)
    assert [span["title"] for span in page.all("span") if "title" in span][:2] == [f"Cable & {HOSTILE}", LONG]
    words = page.text
    for part in (f"1 × Cable & {HOSTILE}", f"24 × {LONG}", "3 × a product without a name", "P(2) 97 %"):
        assert part in words
    assert f"{NUM_PRODUCTS_SHOWN} × Product {NUM_PRODUCTS_SHOWN} and 2 more" in words
    assert f"Product {NUM_PRODUCTS_SHOWN + 1}" not in words
    assert words.count("No record came with this photo") == 1  # the bin LONG
    assert "Product 1" not in html[html.index('<section id="hits"') :]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Disney&reg; Frozen&#8482;", "Disney® Frozen™"),
        ("Caf&eacute; &amp; Co", "Café & Co"),
        ("&lt;script&gt;alert(1)&lt;/script&gt;", HOSTILE),
        ("&lt;img src=x onerror=alert(1)&gt;", "<img src=x onerror=alert(1)>"),
        ("AT&T", "AT&T"),
    ],
)
def test_a_name_that_was_written_as_html_is_read_and_stays_text(written, read):
    page = Page(render(records=make_records() | {HOSTILE: [(written, 1)]}))
    assert f"1 × {read}" in page.text
    assert read in [span.get("title") for span in page.all("span")]
    assert not page.all("script") and all("onerror" not in image for image in page.all("img"))


def test_a_leak_is_the_headline():
    html = render(result=make_metrics(leakage=20, train_manifest_sha256="ab12" * 16))
    page = Page(html[html.index("<body>") :])
    assert page.text.strip().startswith(
        "Leak: the model was trained on 20 of these 1,000 test bins. The figures do not say"
    )
    assert "resnet50 was trained on 20 of 1,000 test bins" in html[: html.index("</title>")]
    assert (
        "another dataset than the model was trained on: manifest.parquet is 9f2c9f2c9f2c9f2c, was ab12ab12" in page.text
    )


@pytest.mark.parametrize(
    ("facts", "said", "unsaid"),
    [
        ({"leakage": 0, "train_manifest_sha256": "9f2c" * 16}, "", "trained on"),
        (
            {"leakage": None},
            "Whether the model was trained on some of these bins, its checkpoint does not say.",
            "Leak",
        ),
        ({"leakage": 0, "train_manifest_sha256": "ab12" * 16}, "it was trained on none of these bins", "Leak"),
        ({"split": "train", "leakage": 1000}, "was trained on 1,000 of these 1,000 bins: on new ones", "Leak"),
        ({"split": "all", "leakage": 700}, "was trained on 700 of these 1,000 bins: on new ones", "Leak"),
        ({"split": "valid", "leakage": 0}, "The checkpoint was chosen on these bins", "trained on"),
        ({"trained_on_synthetic": True}, "has only ever seen drawn bins, and these are photos", "drawings"),
        ({"trained_on_synthetic": True, "synthetic": True}, "These bins are drawings", "and these are photos"),
    ],
)
def test_what_the_model_has_seen_is_told_before_the_figures(facts, said, unsaid):
    text = Page(render(result=make_metrics(**facts))).text
    head = text[: text.index("Higher is better")]
    assert said in head and unsaid not in head


def test_no_word_of_wrong_records_where_bins_were_drawn():
    text = Page(render(result=make_metrics(synthetic=True), records=make_records())).text
    assert "Surest mistakes" in text
    assert "record may be" not in text and "record errors" not in text and "One of the two is wrong" not in text


def test_planted_record_errors_come_first():
    """5 % of the records are wrong, any way; an overconfident model errs by one."""
    draw = numpy.random.default_rng(3)
    truth_N = draw.integers(5, size=2000)
    seen_N = truth_N + draw.normal(0, 0.45, size=2000)
    probabilities_NK = numpy.exp(-4 * (numpy.arange(5) - seen_N[:, None]) ** 2 / (2 * 0.45**2))  # T = 4 is honest
    probabilities_NK /= probabilities_NK.sum(1, keepdims=True)
    is_wrong_N = draw.random(2000) < 0.05
    recorded_N = numpy.where(is_wrong_N, (truth_N + draw.integers(1, 5, size=2000)) % 5, truth_N)
    predictions = [
        BinPrediction(
            f"{row:05}", int(recorded_N[row]), int(probabilities_NK[row].argmax()), probabilities_NK[row].tolist()
        )
        for row in range(2000)
    ]

    def precision(ranked: list[BinPrediction]) -> float:
        place = {prediction.image_id: place for place, prediction in enumerate(ranked)}
        return average_precision_score(is_wrong_N, [-place[f"{row:05}"] for row in range(2000)])

    mistakes, hits = rank_predictions(tempered(predictions, 4.0), range(5))
    by_the_formula = (probabilities_NK**0.25 / (probabilities_NK**0.25).sum(1, keepdims=True))[range(2000), recorded_N]
    found = precision([*mistakes, *reversed(hits)])
    assert found == pytest.approx(average_precision_score(is_wrong_N, -by_the_formula), abs=0.02)
    surest = sorted(predictions, key=lambda bin: (bin.predicted == bin.count, -max(bin.probabilities), bin.image_id))
    assert found > precision(surest) + 0.1, "ranked by how sure of its own count the model is"


def test_an_empty_bin_is_not_one_without_a_record():
    result = make_metrics()
    result = replace(result, counts=[0, 1, 2], per_count=dict.fromkeys((0, 1, 2), result.per_count[1]))
    predictions = [BinPrediction("00001", 0, 2, [0.1, 0.1, 0.8])]
    text = Page(render(result=result, predictions=predictions, records={"00001": []})).text
    assert "The record lists nothing." in text and "No record came" not in text


def test_without_records_the_page_says_how_to_get_them(html):
    assert "run scripts/prepare.py again" in Page(html).text
    assert "run scripts/prepare.py again" not in Page(render(records=make_records())).text


def test_the_confusion_matrix_shows_shares_of_each_row(html):
    table = html[html.index('<table class="confusion"') :]
    assert re.findall(r'<th scope="row">(\d)<br><small class="nowrap">(\d+) bins', table)[:2] == [
        ("1", "4"),
        ("2", "4"),
    ]
    cells = re.findall(r"<td style=\"--shade:([\d.]+)\"( class=\"exact\")?><b>(\d+)&#8239;%</b> <small>(\d+)", table)
    assert [(int(share), int(num)) for *_, share, num in cells] == [
        *((75, 3), (25, 1), (0, 0)),
        *((25, 1), (50, 2), (25, 1)),
        *((0, 0), (0, 0), (100, 2)),
    ]
    assert [bool(exact) for _, exact, *_ in cells] == [
        True,
        False,
        False,
        False,
        True,
        False,
        False,
        False,
        True,
    ]
    assert [float(shade) for shade, *_ in cells[:2]] == [0.75, 0.25]


def test_mistakes_and_hits_come_surest_first_and_ties_by_id():
    mistakes, hits = rank_predictions(make_predictions(), [1, 2, 3])
    assert [bin.image_id for bin in mistakes] == [HOSTILE, LONG, "00005"]
    assert [bin.image_id for bin in hits] == ["00009", "00001", "00003", "00007", "00002", "00010", "00006"]


def test_at_most_twelve_pictures_a_section_are_asked_for():
    asked = []
    predictions = [BinPrediction(f"{i:05}", 1, 1 + i % 2, [0.6, 0.3, 0.1]) for i in range(60)]
    render(predictions=predictions, read_image=lambda image_id: asked.append(image_id) or make_jpeg())
    assert len(asked) == len(set(asked)) == 24


def test_pictures_shrink_to_thumbnails_and_keep_their_shape():
    uri = make_thumbnail("00001", make_jpeg(500, 250))
    kind, _, encoded = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        assert picture.size == (THUMBNAIL_PX, THUMBNAIL_PX // 2)


@pytest.mark.parametrize("broken", [b"", b"not a picture", make_jpeg()[:200]])
def test_a_broken_picture_is_named(broken):
    with pytest.raises(ValueError, match=r"bin '00001' .*cannot be read.*prepare"):
        make_thumbnail("00001", broken)


def test_numbers_that_do_not_exist_are_written_as_such():
    result = make_metrics()
    unknown = {name: of(name, None) for name in ("accuracy", "within_one", "rmse")}
    result = replace(
        result,
        metrics={**result.metrics, **unknown, "macro_f1": of("macro_f1", None)},
        majority_baseline=Baseline({**result.majority_baseline.metrics, **unknown}, 2),
        per_count={**result.per_count, 3: CountScores(0, {name: estimate(None) for name in PER_COUNT_METRICS})},
        confusion_matrix=[*result.confusion_matrix[:2], [0, 0, 0]],
        linear_baseline=None,
    )
    page = Page(render(result=result, history=[], run=Run()))
    assert "best.ckpt on 1,000 test bins" in page.text
    assert page.text.count("n/a") >= 9
    assert "nan" not in page.text.lower() and "None:" not in page.text[: page.text.index("Learning curves")]
    assert "no history of the training" in page.text
    assert "The command was not recorded" in page.text
    assert "Linear model" not in page.text


@pytest.mark.parametrize(("right", "message"), [(True, "no predicted"), (False, "every predicted")])
def test_a_section_without_bins_says_so(right, message):
    predictions = [bin for bin in make_predictions() if (bin.predicted == bin.count) != right]
    assert message in render(predictions=predictions)


@pytest.mark.parametrize("split", ["train", "valid", "all"])
def test_bins_that_the_model_knows_come_with_a_caution(html, split):
    assert "on new ones" in render(result=make_metrics(split=split, leakage=None))
    assert "on new ones" not in html


@pytest.mark.parametrize(
    ("baseline", "words"),
    [(0.255, "clearly better"), (0.36, "may be chance"), (0.5, "clearly worse")],
)
def test_the_baseline_is_compared_by_intervals(baseline, words):
    result = replace(make_metrics(), majority_baseline=Baseline({"accuracy": estimate(baseline)}, 2))
    assert words in " ".join(describe_result(result))


def test_the_page_holds_all_it_needs_and_runs_nothing(html):
    page = Page(html)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert page.all("img") and all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert all(image["alt"].startswith("Photo of bin ") for image in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.text.count(HOSTILE) >= 3


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [390, 1280])
def test_in_a_browser(browser, calibration, tmp_path, width_px, color_scheme):
    file = tmp_path / "report.html"
    result = replace(make_metrics(), calibration=calibration, slices=make_slices())
    file.write_text(render(result=result, records=make_records()), encoding="utf-8")
    context = browser.new_context(viewport={"width": width_px, "height": 844}, color_scheme=color_scheme)
    page = context.new_page()
    requests, troubles = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")

    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert {url for url in requests if not url.startswith("data:")} == {file.as_uri()}
    assert troubles == []
    # A long name is cut by the page and not by who wrote it, and stays inside its bin.
    name = page.locator("#mistakes .products span").nth(1)
    assert name.evaluate("span => span.scrollHeight > span.clientHeight")
    assert page.locator("#mistakes figure").evaluate_all("all => all.every(one => one.scrollWidth <= one.clientWidth)")
    assert page.locator("#mistakes code").first.inner_text() == HOSTILE
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    red, green, blue = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert (red + green + blue > 600) == (color_scheme == "light")
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert ink in page.evaluate("[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#measures"
    photo = page.locator("#mistakes img").first
    photo.scroll_into_view_if_needed()
    small = photo.bounding_box()
    page.locator("#mistakes .zoom").first.click()
    large = photo.bounding_box()
    assert (large["width"], large["height"]) == (width_px, 844) and small["width"] < 350
    page.mouse.click(width_px / 2, 422)
    assert photo.bounding_box()["width"] == small["width"], "a second click, anywhere, makes it small again"
    if width_px == 1280:  # no column stays empty
        right = (
            "section => Math.max(...[...section.querySelectorAll('*')].map(one => one.getBoundingClientRect().right))"
        )
        ends = page.locator("section").evaluate_all(f"all => all.map({right})")
        assert min(ends) > 0.9 * 1280, ends
    context.close()

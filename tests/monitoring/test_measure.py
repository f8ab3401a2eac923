"""A window beside the baseline: quiet where nothing has changed, and on real photos what has changed is found."""

import json
from dataclasses import replace

import numpy
import pytest
from monitored import write_log
from PIL import Image, ImageFilter

from stocktake.images.decoding import read_pixels
from stocktake.metrics.drift import measure_shifts
from stocktake.monitoring.measure import measure_monitoring
from stocktake.monitoring.monitored_model import MonitoredModel
from stocktake.monitoring.window import Window, read_window
from stocktake.serving.logged_answer import IMAGE_FIGURES, measure_reduced, reduced
from stocktake.storage import Folder, StorageOptions

LIMITS = {"false_alarms": 0.01, "min_answers": 100, "max_error_share": 0.05}


@pytest.fixture(scope="module")
def opened(model):
    return MonitoredModel.open(Folder(str(model)))


def window_of(requests, opened) -> Window:
    return Window(opened.counts, requests, 1, len(requests), [], 0, {})


def test_a_quiet_window_is_quiet(opened, answers, tmp_path):
    window = read_window(str(write_log(tmp_path, answers)), StorageOptions(), opened)
    result = measure_monitoring(opened, window, "log", **LIMITS)
    assert result.alarms == [] and result.drifted == []
    assert (result.num_answers, result.statuses, result.error_share.value) == (500, {200: 500}, 0)
    assert result.expected_accuracy.low <= result.baseline_accuracy.value <= result.expected_accuracy.high
    assert result.latency_s == {"p50": 0.01, "p95": 0.01, "p99": 0.01}
    for figure in result.figures.values():
        assert sum(figure.histogram.baseline) == pytest.approx(1, abs=1e-3)
        assert sum(figure.histogram.window) == pytest.approx(1, abs=1e-3)
    plain = json.loads(json.dumps(result.to_json()))
    assert plain["figures"]["brightness"]["mean"] == pytest.approx(numpy.mean([one.brightness for one in answers]))


def test_errors_and_slow_answers_are_alarms(opened, answers):
    refused = [replace(one, status=422, reason="image-size", count=None, probabilities=None) for one in answers[:50]]
    slow = [replace(one, latency_s=3.0) for one in answers[50:70]]
    window = window_of([*refused, *slow, *answers[70:]], opened)
    result = measure_monitoring(opened, window, "log", **LIMITS, max_latency_s=1)
    assert (result.statuses, result.reasons) == ({200: 450, 422: 50}, {"image-size": 50})
    assert result.drifted == [] and len(result.alarms) == 2
    assert "10.0\u202f% of the requests got no count, more than the 5 % allowed" in result.alarms[0]
    assert "took 3 s or more; 1 s are allowed" in result.alarms[1]


def test_too_few_answers_have_no_verdict(opened, answers):
    window = replace(window_of(answers[:99], opened), other_models={"older": 401})
    with pytest.raises(ValueError, match=r"99 answers of brightness-1.*100 are needed.*401 of older.*last_days"):
        measure_monitoring(opened, window, "log", **LIMITS)


# --- real photos: what a camera does to them -----------------------------------------------------------------------

NUM_PHOTOS = 1200  # half of them the baseline


def figures(images: list[numpy.ndarray]) -> dict[str, numpy.ndarray]:
    measured = [measure_reduced(reduced(image), image.shape[1], image.shape[0]) for image in images]
    return {name: numpy.array([one[name] for one in measured], float) for name in IMAGE_FIGURES}


@pytest.fixture(scope="module")
def photos(abid_root):
    """Blocks of neighboring bins go to one side, as the split has it."""
    paths = sorted((abid_root / "bin-images").glob("*.jpg"), key=lambda path: (len(path.stem), path.stem))
    blocks = numpy.array([int(path.stem) // 30 for path in paths])
    is_before = numpy.random.default_rng(0).permutation(blocks.max() + 1)[blocks] % 2 == 0
    before, after = (numpy.flatnonzero(side) for side in (is_before, ~is_before))
    chosen = [side[:: len(side) // (NUM_PHOTOS // 2)][: NUM_PHOTOS // 2] for side in (before, after)]
    images = [[read_pixels(paths[position].read_bytes()) for position in side] for side in chosen]
    return figures(images[0]), blocks[chosen[0]], images[1][:500]


def blurred(image: numpy.ndarray) -> numpy.ndarray:
    return numpy.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.5)))


CHANGES = {
    "nothing": (lambda image, number: image, set()),
    "a tenth darker": (lambda image, number: (image * 0.9).astype(numpy.uint8), {"brightness"}),
    "blurred by half a pixel": (lambda image, number: blurred(image), {"sharpness"}),
    "one camera of four turned": (
        lambda image, number: numpy.ascontiguousarray(numpy.rot90(image)) if number % 4 == 0 else image,
        {"strap_density"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_photos_is_found_in_500_answers(photos, change):
    baseline, groups, images = photos
    changed, expected = CHANGES[change]
    window = figures([changed(image, number) for number, image in enumerate(images)])
    found = {name for name, shift in measure_shifts(baseline, window, groups).items() if shift.is_drift}
    assert expected <= found if expected else not found

"""How often scripts/monitor.py finds a change in 500 answers of a trained model, and how often it cries wolf.

    python scripts/prepare.py source=BINS root=data/drift 'split.fractions={train: 0.5, valid: 0.15, test: 0.35}'
    python train.py experiment=mobilenet_transfer data.root=data/drift model.weights=FILE
    python scripts/export.py checkpoint=runs/mobilenet_transfer/TIME
    python benchmarks/bench_drift.py --model runs/mobilenet_transfer/TIME/model --root data/drift

The bins are those that the model was not trained on. In each turn their blocks are dealt out anew: to a baseline, as
`export.py` keeps one, and to as many windows of answers as the others are enough for, so that no bin is in two of them.
Each window is compared as it is, and changed in each way that a warehouse may change. Of the windows as they are it is
also said in how many the true share of right counts lies within the interval of the expected accuracy. Turns share
their bins, so windows are less different from each other than the intervals, of as many separate ones, have it.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import harness
import numpy
import pyarrow
from numpy import ndarray
from PIL import Image, ImageFilter

from stocktake.data.manifest import Manifest
from stocktake.hardware import num_cores
from stocktake.images.decoding import read_pixels
from stocktake.metrics.bootstrap import share_interval
from stocktake.metrics.drift import chance_limits, expected_accuracy, measure_distances
from stocktake.serving.baseline import figures_of
from stocktake.serving.logged_answer import IMAGE_FIGURES, measure_reduced, reduced
from stocktake.serving.predictor import Predictor
from stocktake.storage import Folder

PACKAGES = ["numpy", "onnxruntime", "pillow"]
AS_THEY_ARE, OTHER_COUNTS = "as they are", "other counts"
OTHER_SHARES = (0.1, 0.1, 0.2, 0.2, 0.4)  # of the counts in rising order
BLUR_PX, NUM_CAMERAS = 0.5, 4


def blurred(image: ndarray) -> ndarray:
    return numpy.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(BLUR_PX)))


# What happens to the image of a bin, which has a number.
CHANGES: dict[str, Callable[[ndarray, int], ndarray]] = {
    AS_THEY_ARE: lambda image, number: image,
    "a tenth darker": lambda image, number: (image * 0.9).astype(numpy.uint8),
    "blurred by half a pixel": lambda image, number: blurred(image),
    "one camera of four turned": lambda image, number: (
        image if number % NUM_CAMERAS else numpy.ascontiguousarray(numpy.rot90(image))
    ),
}


@dataclass(frozen=True)
class Bins:
    """Bins that the model was not trained on.

    Attributes:
        labels_N: The record's count of each, as its position among the K that the model tells apart.
        groups_N: Number of the block of neighboring bins that each is of.
        answers: By change the probabilities of shape (N, K) and all figures of shape (N,).
    """

    labels_N: ndarray
    groups_N: ndarray
    answers: Mapping[str, tuple[ndarray, Mapping[str, ndarray]]]

    def figures(self, change: str, positions: ndarray) -> dict[str, ndarray]:
        return {name: values_N[positions] for name, values_N in self.answers[change][1].items()}

    def probabilities(self, change: str, positions: ndarray) -> ndarray:
        return self.answers[change][0][positions]


# --- answers -------------------------------------------------------------------------------------------------------


def ask(model: str, root: Folder, splits: list[str]) -> Bins:
    """Has the model answer all bins of some splits, as they are and changed."""
    predictor, manifest = Predictor.open(model, num_threads=1), Manifest.read(root)
    rows = pyarrow.concat_tables([manifest.rows(split, counts=predictor.counts) for split in splits])
    keys = rows["key"].to_pylist()

    def answers(number: int) -> list[tuple[ndarray, list[float]]]:
        pixels_HW3, found = read_pixels(root.read(keys[number])), []
        for change in CHANGES.values():
            changed_HW3 = change(pixels_HW3, number)
            height_px, width_px, _ = changed_HW3.shape
            measured = measure_reduced(reduced(changed_HW3), width_px, height_px)
            image = [measured.get(name, numpy.nan) for name in IMAGE_FIGURES]
            found.append((predictor.probabilities(changed_HW3), image))
        return found

    with ThreadPoolExecutor(num_cores()) as threads:
        by_bin = list(threads.map(answers, range(len(keys))))
    by_change = {}
    for change, found in zip(CHANGES, zip(*by_bin, strict=True), strict=True):
        probabilities_NK = numpy.array([probabilities_K for probabilities_K, _ in found], float)
        images: dict[str, ndarray] = dict(
            zip(IMAGE_FIGURES, numpy.array([image for _, image in found], float).T, strict=True)
        )
        by_change[change] = (probabilities_NK, figures_of(predictor.counts, probabilities_NK, images))
    groups_N = numpy.unique(rows["group"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    return Bins(numpy.searchsorted(predictor.counts, rows["count"].to_numpy()), groups_N, by_change)


# --- windows -------------------------------------------------------------------------------------------------------


def deal(bins: Bins, draw: numpy.random.Generator, num_baseline: int) -> tuple[ndarray, ndarray]:
    """Returns the bins of a baseline, in whole blocks, and those of all other blocks, in the order of the deal."""
    order_G = draw.permutation(bins.groups_N.max() + 1)
    dealt = numpy.concatenate([numpy.flatnonzero(bins.groups_N == group) for group in order_G])
    last = bins.groups_N[dealt[:num_baseline][-1]]
    cut = numpy.flatnonzero(bins.groups_N[dealt] == last)[-1] + 1
    return dealt[:cut], dealt[cut:]


def of_other_counts(bins: Bins, draw: numpy.random.Generator, others: ndarray, num_answers: int) -> ndarray:
    """Returns bins of OTHER_SHARES.

    Raises:
        SystemExit: There are too few of one count.
    """
    chosen = []
    for position, share in enumerate(OTHER_SHARES):
        of_count, wanted = others[bins.labels_N[others] == position], round(share * num_answers)
        if len(of_count) < wanted:
            raise SystemExit(
                f"{len(of_count)} bins of one count, and {wanted} are needed: prepare a larger share for test"
            )
        chosen.append(draw.choice(of_count, wanted, replace=False))
    return numpy.concatenate(chosen)


def run_windows(
    bins: Bins, num_windows: int, num_baseline: int, num_answers: int
) -> tuple[dict[str, list[list[str]]], int]:
    """Returns by change the figures that each window has drifted in, and how often the accuracy was foreseen."""
    drifted, num_within = {name: [] for name in (*CHANGES, OTHER_COUNTS)}, 0
    for turn in range(num_windows):  # each baseline has several windows, so there are fewer turns
        draw = numpy.random.default_rng(turn)
        before, others = deal(bins, draw, num_baseline)
        if len(others) < num_answers:
            raise SystemExit(f"{len(others)} bins are left for a window of {num_answers}: take a smaller baseline")
        baseline, groups = bins.figures(AS_THEY_ARE, before), bins.groups_N[before]
        limits, asked_before = chance_limits(baseline, groups, num_answers), bins.probabilities(AS_THEY_ARE, before)
        hits = asked_before.argmax(1) == bins.labels_N[before]
        for end in range(num_answers, len(others) + 1, num_answers):
            window = others[end - num_answers : end]
            for name in drifted:
                is_other = name == OTHER_COUNTS
                positions = of_other_counts(bins, draw, others, num_answers) if is_other else window
                figures = bins.figures(AS_THEY_ARE if is_other else name, positions)
                shifts = measure_distances(baseline, figures, limits)
                drifted[name].append([figure for figure, shift in shifts.items() if shift.is_drift])
            answered = bins.probabilities(AS_THEY_ARE, window)
            expected = expected_accuracy(answered.max(1), asked_before.max(1), hits, groups)
            true = (answered.argmax(1) == bins.labels_N[window]).mean()
            num_within += bool((expected.low or 0) <= true <= (expected.high or 0))
            if len(drifted[AS_THEY_ARE]) == num_windows:
                return drifted, num_within
    raise AssertionError("each turn has a window")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="an exported folder")
    parser.add_argument("--root", type=Path, required=True, help="the dataset root that it was trained on")
    parser.add_argument("--splits", default="valid,test", help="that it was not trained on, by commas")
    parser.add_argument("--windows", type=int, default=100, help="of every kind")
    parser.add_argument("--num-baseline", type=int, default=1000, help="images of a baseline, as export.py has them")
    parser.add_argument("--num-answers", type=int, default=500, help="of a window")
    arguments = parser.parse_args()
    facts = harness.circumstances(PACKAGES)
    bins = ask(str(arguments.model), Folder(str(arguments.root)), arguments.splits.split(","))
    print(f"{len(bins.labels_N):,} bins are answered", flush=True)
    drifted, num_within = run_windows(bins, arguments.windows, arguments.num_baseline, arguments.num_answers)
    report(arguments, bins, drifted, num_within, facts)


def report(
    arguments: argparse.Namespace,
    bins: Bins,
    drifted: Mapping[str, list[list[str]]],
    num_within: int,
    facts: dict[str, str],
) -> None:
    def share(number: int) -> dict[str, float]:
        value = number / arguments.windows
        low, high = share_interval(value, arguments.windows)
        return {"value": value, "low": low, "high": high}

    found = {name: share(sum(map(bool, figures))) for name, figures in drifted.items()}
    told = {name: Counter(figure for one in figures for figure in one) for name, figures in drifted.items()}
    within = share(num_within)
    rows = [
        [name, _shown(found[name]), ", ".join(f"{figure} {number}" for figure, number in told[name].most_common(4))]
        for name in drifted
    ]
    rows.append(["accuracy within its interval", _shown(within), ""])
    title = f"{arguments.windows} windows of {arguments.num_answers} answers, {len(bins.labels_N):,} bins"
    harness.print_table(title, ["the photos", "share of windows called drift", "by figure"], rows, facts)
    probabilities_NK = bins.answers[AS_THEY_ARE][0]
    summary = {
        "accuracy": float((probabilities_NK.argmax(1) == bins.labels_N).mean()),
        "expected_accuracy": float(probabilities_NK.max(1).mean()),
        "num_bins": len(bins.labels_N),
        "called_drift": found,
        "figures": told,
        "accuracy_within_interval": within,
    }
    print(json.dumps(summary | facts))


def _shown(share: Mapping[str, float]) -> str:
    return f"{share['value']:.2f} ({share['low']:.2f} to {share['high']:.2f})"


if __name__ == "__main__":
    main()

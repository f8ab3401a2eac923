"""A plausible result of an evaluation, for tests of what shows it, compares it or reads it."""

from dataclasses import replace
from typing import Any

from stocktake.evaluation.calibration_result import CalibrationResult, Reliability, RiskCoverage
from stocktake.evaluation.evaluation_result import Baseline, CountScores, EvaluationResult
from stocktake.evaluation.subject import Subject
from stocktake.metrics.definitions import COUNT_METRICS, PER_COUNT_METRICS
from stocktake.metrics.estimate import Estimate

VALUES = {
    "accuracy": 0.372,
    "within_one": 0.818,
    "mae": 0.81,
    "rmse": 1.11,
    "rmse_expected": 1.02,
    "macro_precision": 0.36,
    "macro_recall": 0.35,
    "macro_f1": 0.34,
}
BASELINE = {"accuracy": 0.255, "within_one": 0.7, "mae": 1.0, "rmse": 1.3}


def estimate(value: float | None, margin: float = 0.03, is_share: bool = True) -> Estimate:
    if value is None:
        return Estimate(None, is_share=is_share)
    return Estimate(value, value - margin, value + margin, is_share)


def of(name: str, value: float | None) -> Estimate:
    """An estimate of a metric."""
    return estimate(value, is_share=COUNT_METRICS[name].is_share)


def make_subject(**changes: Any) -> Subject:
    """Bins that the model has not seen."""
    subject = Subject(
        checkpoint="runs/made-up/checkpoints/best.ckpt",
        root="file:///data/bins",
        split="test",
        num_images=1000,
        manifest_sha256="9f2c" * 16,
        leakage=0,
        train_manifest_sha256="9f2c" * 16,
    )
    return replace(subject, **changes)


def make_result(**changes: Any) -> EvaluationResult:
    """On counts 1 to 3, with neither calibration nor slices."""
    scores = {name: estimate(0.5) for name in PER_COUNT_METRICS}
    result = EvaluationResult(
        subject=make_subject(),
        counts=[1, 2, 3],
        metrics={name: of(name, value) for name, value in VALUES.items()},
        per_count={count: CountScores(4, scores) for count in (1, 2, 3)},
        confusion_matrix=[[3, 1, 0], [1, 2, 1], [0, 0, 2]],
        majority_baseline=Baseline({name: of(name, value) for name, value in BASELINE.items()}, 2),
        linear_baseline=Baseline({"accuracy": estimate(0.29)}),
        num_blocks=210,
        created="2026-01-05T14:30:12+00:00",
    )
    return replace(result, **changes)


def bars(filled: dict[int, tuple[float, float, int]]) -> Reliability:
    """15 bars, of which only some have images: how sure, how often right, and how many."""
    columns = zip(*(filled.get(part, (None, None, 0)) for part in range(15)), strict=True)
    return Reliability(*map(list, columns))


def make_calibration(**changes: Any) -> CalibrationResult:
    calibration = CalibrationResult(
        temperature=1.31,
        coverage=0.9,
        threshold=0.123,
        num_images=1811,
        figures={
            # 0.4 * 0.05 + 0.6 * 0.20 and 0.4 * 0.03 + 0.6 * 0.05, see the bars
            "ece_before": estimate(0.14, 0.013),
            "ece_after": estimate(0.042, 0.011),
            "nll_before": estimate(1.53, 0.07, is_share=False),
            "nll_after": estimate(1.47, 0.06, is_share=False),
            "brier_before": estimate(0.74, 0.04, is_share=False),
            "brier_after": estimate(0.71, 0.03, is_share=False),
            "set_coverage": estimate(0.912, 0.021),
            "set_size": estimate(2.41, 0.05, is_share=False),
            "aurc": estimate(0.376, 0.031),
        },
        ece_by_chance=0.036,
        set_coverage_by_chance=(0.871, 0.929),
        before=bars({4: (0.30, 0.25, 40), 8: (0.60, 0.40, 60)}),  # says 0.48, is right on 0.34
        after=bars({4: (0.28, 0.25, 40), 6: (0.45, 0.40, 60)}),  # says 0.382
        risk_coverage=RiskCoverage(
            [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], [0.0, 0.1, 0.2, 0.3, 0.42, 0.45, 0.5, 0.55, 0.6, 0.66]
        ),
    )
    return replace(calibration, **changes)

"""What the server answers to /invocations: the fields of a prediction."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """What the model predicts for one image.

    Attributes:
        count: The most likely count.
        probabilities: P(count) of every count that the model knows, tempered; they sum to 1.
        conformal_set: The counts that cannot be ruled out, rising; the sets of `calibration.coverage` of all images
            hold the record's count. Never empty.
        mismatch_score: 0 to 1, how unlikely the record's count is given the photo: 1 - P(record), by which records are
            ranked for a recount (`metrics.calibration.mismatch_score` says why). `None` where no record was named.
        verdict: All of this in one sentence.
        model_version: Of the model that predicted it.
        milliseconds: From the image's bytes to this prediction.
        warning: In what the image is unlike all that the model has seen, so that the rest means little; or `None`.
    """

    count: int
    probabilities: dict[int, float]
    conformal_set: list[int]
    mismatch_score: float | None
    verdict: str
    model_version: str
    milliseconds: float
    warning: str | None = None


def verdict(count: int, probabilities: dict[int, float], conformal_set: list[int], expected: int | None) -> str:
    """Returns a prediction in one sentence, beside the record's count where there is one."""
    seen = f"{count} {'item' if count == 1 else 'items'} ({probabilities[count]:.0%})"
    if expected is None:
        return f"Most likely {seen}; not ruled out: {_listed(conformal_set)}."
    if expected == count:
        return f"Agrees with the record of {expected}: most likely {seen}."
    if expected in conformal_set:
        return f"The record of {expected} is possible ({probabilities[expected]:.0%}), though {seen} is likelier."
    return f"The record of {expected} is unlikely ({probabilities[expected]:.0%}), recount: most likely {seen}."


def _listed(counts: list[int]) -> str:
    *others, last = map(str, counts)
    return f"{', '.join(others)} or {last}" if others else last

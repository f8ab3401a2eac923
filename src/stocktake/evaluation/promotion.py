"""Whether a challenger takes the champion's place: better on the same bins by more than chance, and as honest."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stocktake.evaluation.comparison import Comparison
from stocktake.evaluation.results import Evaluation
from stocktake.metrics.estimate import Difference

SPLIT = "test"  # the only bins on which nothing was chosen
MIN_BLOCKS = 6  # of fewer no test by flipping signs is below 0.05


class NotComparable(ValueError):
    """An evaluation that a promotion cannot rest on; the message says why and what to type."""


@dataclass(frozen=True)
class Criteria:
    """What a challenger has to show.

    Attributes:
        margin: It counts more bins exactly than the champion by more than this share of them.
        level: The paired test over blocks gives a p-value of at most this.
        max_ece_increase: Its calibration error with the temperature may be higher by so much, and no clearer.
    """

    margin: float
    level: float
    max_ece_increase: float


@dataclass(frozen=True)
class Decision:
    """All of promotion.json but the comparison that it rests on.

    Attributes:
        champion: Its evaluation's folder; None where there was no champion.
        reasons: Why not; empty where it is promoted.
        accuracy: Challenger less champion; None without a champion, like the three below.
    """

    is_promoted: bool
    challenger: str
    champion: str | None
    reasons: Sequence[str]
    criteria: Criteria
    accuracy: Difference | None = None
    p_value: float | None = None
    ece: Difference | None = None

    def to_json(self) -> dict[str, Any]:
        differences = {"accuracy": self.accuracy, "ece": self.ece}
        return vars(self) | {
            "criteria": asdict(self.criteria),
            **{name: None if found is None else found.to_json() for name, found in differences.items()},
        }


def require_unseen(evaluation: Evaluation) -> None:
    """Checks that an evaluation says how a model counts bins that it has not seen.

    Raises:
        NotComparable: It is of other bins, or of some that the model was trained on.
    """
    subject = evaluation.result.subject
    if subject.split != SPLIT:
        raise NotComparable(
            f"{evaluation.url} is of the {subject.split} bins, on which something was chosen. Evaluate it again with "
            f"split={SPLIT}."
        )
    if subject.is_leaked:
        raise NotComparable(
            f"{evaluation.url}: the model was trained on {subject.leakage:,} of these {subject.num_images:,} bins. "
            "Evaluate it with the dataset root that it was trained on."
        )


def decide(comparison: Comparison, criteria: Criteria) -> Decision:
    """Returns whether the second of two compared models is promoted over the first.

    Args:
        comparison: Of the champion, first, and the challenger.
    """
    (contrast,) = comparison.contrasts
    champion, challenger = comparison.recipes
    accuracy, ece = contrast.differences["accuracy"], contrast.differences["ece"]
    reasons = []
    if comparison.num_blocks < MIN_BLOCKS:
        reasons.append(f"{comparison.num_blocks} blocks of bins are too few for a test; {MIN_BLOCKS} are needed")
    if accuracy.value is None or accuracy.value <= criteria.margin:
        reasons.append(f"its accuracy differs by {accuracy}, and more than {100 * criteria.margin:+.1f} are needed")
    if contrast.p_value > criteria.level:
        reasons.append(f"p = {contrast.p_value:.3f} in the paired test over blocks, and {criteria.level:g} is needed")
    if ece.value is None:
        reasons.append("the calibration of one of the two was not measured")
    elif ece.value > criteria.max_ece_increase and (ece.low is None or ece.low > 0):
        reasons.append(f"its calibration error differs by {ece}, and is clearly worse")
    return Decision(
        not reasons,
        challenger.evaluations[0],
        champion.evaluations[0],
        reasons,
        criteria,
        accuracy,
        contrast.p_value,
        ece,
    )

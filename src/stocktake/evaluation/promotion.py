"""Whether a challenger takes the champion's place: better on the same bins by more than chance, and as honest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stocktake.evaluation.comparison import Comparison
from stocktake.evaluation.results import Evaluation
from stocktake.metrics.estimate import Difference

SPLIT = "test"  # the only bins on which nothing was chosen
MIN_BLOCKS = 6  # of fewer no test by flipping signs is below 0.05
EVALUATION = "evaluation"  # property of a registered model: the folder of its evaluation


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
class Check:
    """One thing that a challenger has to show, in words.

    Attributes:
        reason: Why it does not, where it does not.
        interval: Of what was found, where it has one.
    """

    what: str
    needed: str
    found: str
    is_met: bool
    reason: str
    interval: str = ""

    def to_json(self) -> dict[str, str | bool]:
        return {name: getattr(self, name) for name in ("what", "needed", "found", "interval", "is_met")}


@dataclass(frozen=True)
class Decision:
    """All of promotion.json but the comparison that it rests on.

    Attributes:
        champion: Its evaluation's folder; None where there was no champion.
        checks: What was looked at; nothing without a champion.
        accuracy: Challenger less champion; None without a champion, like the two below.
    """

    challenger: str
    champion: str | None
    criteria: Criteria
    checks: Sequence[Check] = ()
    accuracy: Difference | None = None
    p_value: float | None = None
    ece: Difference | None = None

    @property
    def is_promoted(self) -> bool:
        return all(check.is_met for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """Why it is not promoted; nothing where it is."""
        return [check.reason for check in self.checks if not check.is_met]

    def to_json(self) -> dict[str, Any]:
        return {
            "is_promoted": self.is_promoted,
            "challenger": self.challenger,
            "champion": self.champion,
            "reasons": self.reasons,
            "criteria": asdict(self.criteria),
            "checks": [check.to_json() for check in self.checks],
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "p_value": self.p_value,
            "ece": None if self.ece is None else self.ece.to_json(),
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
    if subject.leakage is None:
        raise NotComparable(
            f"{evaluation.url} does not say whether the model was trained on these bins. Train and evaluate it again."
        )
    if subject.is_leaked:
        raise NotComparable(
            f"{evaluation.url}: the model was trained on {subject.leakage:,} of these {subject.num_images:,} bins. "
            "Evaluate it with the dataset root that it was trained on."
        )


def require_registered(evaluation: Evaluation, properties: Mapping[str, str]) -> None:
    """
    Raises:
        NotComparable: An evaluation is not of the model that a version of the registry was made of.
    """
    found = lineage(evaluation)
    for name in {"checkpoint_sha256", "manifest_sha256"} & properties.keys():
        if str(found[name]) != properties[name]:
            another = f"{name} {found[name]} and not {properties[name]}"
            raise NotComparable(f"In {evaluation.url} lies no evaluation of the registered version now: {another}.")


def decide(comparison: Comparison, criteria: Criteria) -> Decision:
    """Returns whether the second of two compared models is promoted over the first.

    Args:
        comparison: Of the champion, first, and the challenger.
    """
    (contrast,) = comparison.contrasts
    champion, challenger = comparison.recipes
    return Decision(
        challenger.evaluations[0],
        champion.evaluations[0],
        criteria,
        list(_checks(comparison, criteria)),
        contrast.differences["accuracy"],
        contrast.p_value,
        contrast.differences["ece"],
    )


def _checks(comparison: Comparison, criteria: Criteria) -> Iterator[Check]:
    (contrast,) = comparison.contrasts
    accuracy, ece, p_value = contrast.differences["accuracy"], contrast.differences["ece"], contrast.p_value
    num_blocks, margin = comparison.num_blocks, f"{100 * criteria.margin:+.1f}"
    yield Check(
        "blocks of neighboring bins",
        f"at least {MIN_BLOCKS}",
        f"{num_blocks:,}",
        num_blocks >= MIN_BLOCKS,
        f"{num_blocks} blocks of bins are too few for a test; {MIN_BLOCKS} are needed",
    )
    yield Check(
        "more bins counted exactly",
        f"above {margin} points",
        str(accuracy),
        accuracy.value is not None and accuracy.value > criteria.margin,
        f"its accuracy differs by {accuracy}, and more than {margin} are needed",
        accuracy.interval,
    )
    yield Check(
        "p, paired test over blocks",
        f"at most {criteria.level:g}",
        describe_p_value(p_value),
        p_value <= criteria.level,
        f"{describe_p_value(p_value)} in the paired test over blocks, and {criteria.level:g} is needed",
    )
    yield _calibration_check(ece, criteria.max_ece_increase)


def _calibration_check(ece: Difference, max_increase: float) -> Check:
    what, needed = "higher calibration error", f"at most {100 * max_increase:+.1f} points, or unclear"
    if ece.value is None:
        return Check(what, needed, "not measured", False, "the calibration of one of the two was not measured")
    is_clearly_worse = ece.value > max_increase and (ece.low is None or ece.low > 0)
    reason = f"its calibration error differs by {ece}, and is clearly worse"
    return Check(what, needed, str(ece), not is_clearly_worse, reason, ece.interval)


def describe_p_value(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def lineage(evaluation: Evaluation) -> dict[str, str | float | None]:
    """Returns which checkpoint a model is, of which data, and how well it counts."""
    subject = evaluation.result.subject
    return {
        "checkpoint": subject.checkpoint,
        "checkpoint_sha256": subject.checkpoint_sha256,
        "train_manifest_sha256": subject.train_manifest_sha256,
        "manifest_sha256": subject.manifest_sha256,
        "accuracy": evaluation.result.metrics["accuracy"].value,
    }


def require_exported(challenger: Evaluation, location: str, model: Mapping[str, Any]) -> None:
    """Checks that an exported model is what was evaluated.

    Args:
        location: Of the exported model.
        model: The content of its model.json.

    Raises:
        NotComparable: It is of another checkpoint, or was evaluated as it does not count.
    """
    subject, exported = challenger.result.subject, model.get("checkpoint_sha256")
    if subject.checkpoint_sha256 is None or exported != subject.checkpoint_sha256:
        raise NotComparable(
            f"{location} was exported from another checkpoint (its checkpoint_sha256 is {exported}) than "
            f"{challenger.url} is of ({subject.checkpoint_sha256}). Type exported=<the challenger's own>, or export "
            "and evaluate it again."
        )
    if subject.flip_tta:
        raise NotComparable(
            f"{challenger.url} counts each image together with its mirror image, as an exported model does not. "
            "Evaluate it again with flip_tta=false."
        )


def registered_properties(
    challenger: Evaluation, decision: Decision, model: Mapping[str, Any]
) -> dict[str, str | None]:
    """Returns what a model registry keeps of a promoted model, as text; None is what is not known.

    Args:
        model: The content of the exported model's model.json.
    """
    accuracy, subject = challenger.result.metrics["accuracy"], challenger.result.subject
    numbers = {"accuracy": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
    numbers |= {"p_value": decision.p_value}
    return {
        "model_version": model["version"],
        "checkpoint_sha256": subject.checkpoint_sha256,
        "train_manifest_sha256": subject.train_manifest_sha256,
        "manifest_sha256": subject.manifest_sha256,
        "code_version": model.get("versions", {}).get("stocktake"),
        "commit": model.get("commit"),
        **{name: None if number is None else f"{number:.6g}" for name, number in numbers.items()},
        EVALUATION: challenger.url,
        "champion": decision.champion,
    }

"""README.md of an exported model: what a person should know before believing it. All of it comes from model.json."""

import json
from collections.abc import Mapping
from typing import Any

from stocktake.evaluation.calibration_result import FIGURES
from stocktake.evaluation.evaluation_result import EvaluationResult
from stocktake.evaluation.subject import Subject, describe_what_was_seen
from stocktake.metrics.definitions import COUNT_METRICS, PROBABILITY_METRICS

SHOWN_METRICS = ("accuracy", "macro_f1", "mae", "rmse", "rmse_expected", "within_one")
SHOWN_CALIBRATION = ("ece_after", "set_coverage", "set_size")


def model_card(model: Mapping[str, Any], evaluation: EvaluationResult | None) -> str:
    """Returns the card as Markdown.

    Args:
        model: What model.json holds.
        evaluation: Of this very model, if there is one.
    """
    counts, calibration, check = model["counts"], model["calibration"], model["check"]
    known = ", ".join(map(str, counts))
    int8 = f" In 8 bits; in 32 it was {check['float32']['accuracy']:.3f}." if "float32" in check else ""
    return f"""# {model["version"]}

Counts the items in a photo of a warehouse bin: P(count) for {known}.
Network: {model["backbone"]}; head: {model["head"]}; {model["image_size_px"]} px, {model["resize"]}; exported
{model["created"][:10]} by Stocktake.

## What it is for, and what not

For ranking bins for a recount: it says where a photo and the warehouse's record probably disagree. Not for deciding
that a record is wrong without a person who looks, not for people or for bins that hold other counts than {known} (it
never says any other), and not for photos of another kind than it was trained on.

## Data

{_data(model)}

Labels are the warehouse's record, not a person's count: some of them are wrong, and the figures below measure the
agreement with the record.

## How good it is

{_metrics(evaluation)}

On {check["num_images"]} validation bins, ONNX Runtime's probabilities are within {check["max_difference"]:.1e} of
PyTorch's; accuracy there is {check["accuracy"]:.3f}.{int8}

## How sure it may be

Probabilities are tempered (T = {calibration["temperature"]:.3f}), fitted on {calibration["num_images"]} validation
bins. All counts of at least {calibration["threshold"]:.3f} make a set that holds the record's count for
{calibration["coverage"]:.0%} of bins like those: an average over bins, no promise for each one.

## How to ask it

`model.onnx` takes `pixels`, uint8, height x width x 3 (red, green, blue) of any size, upright, and gives
`probabilities`, float32, one for each of {known}. It resizes, normalizes and tempers itself.

    from stocktake.serving.predictor import Predictor

    prediction = Predictor.open("model").predict(open("bin.jpg", "rb").read(), expected_count={counts[-1]})
    print(prediction.verdict, prediction.mismatch_score)

## Licenses

- Photos: {model["data_license"]}
- Weights that the training began with: {model["weights_license"]}
- Code: Apache-2.0
"""


def _data(model: Mapping[str, Any]) -> str:
    facts = "\n".join(f"- {name}: `{json.dumps(value, sort_keys=True)}`" for name, value in model["data"].items())
    number = model.get("num_train_bins")
    bins = f"{number} bins of the" if number is not None else "The"
    return f"{bins} manifest with the SHA-256 `{model['manifest_sha256']}`; of its making it says:\n\n{facts}"


def _metrics(evaluation: EvaluationResult | None) -> str:
    if evaluation is None:
        return "No evaluation lay beside the run when it was exported: nothing is known of its quality."
    rows = {COUNT_METRICS[name].title: evaluation.metrics[name] for name in SHOWN_METRICS}
    if evaluation.calibration is not None:
        rows |= {
            PROBABILITY_METRICS[FIGURES[key]].title: evaluation.calibration.figures[key] for key in SHOWN_CALIBRATION
        }
    table = "\n".join(f"| {title} | {estimate} | {estimate.interval} |" for title, estimate in rows.items())
    subject, always = evaluation.subject, evaluation.majority_baseline
    return f"{_seen(subject)}\n\n" + (
        f"On the {subject.num_images} bins of the split `{subject.split}` ({evaluation.num_blocks} blocks of "
        "neighboring ids); intervals are 95 %, from a bootstrap over blocks.\n\n"
        f"| | value | 95 % |\n|---|---|---|\n{table}\n\n"
        f"Always saying {always.count} has an accuracy of {always.metrics['accuracy']}."
    )


def _seen(subject: Subject) -> str:
    """Returns whether the model was trained on the bins of the table, which is to be read before the table."""
    return "\n\n".join(describe_what_was_seen(subject)) or "It was trained on none of these bins."

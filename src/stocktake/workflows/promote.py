"""scripts/promote.py: whether a challenger takes the champion's place, decided on the same test bins and recorded."""

import json
import sys

from omegaconf import DictConfig

from stocktake.config import build
from stocktake.evaluation.comparison import Comparison, measure_comparison
from stocktake.evaluation.paired_bootstrap import PairedBootstrap
from stocktake.evaluation.promotion import Criteria, Decision, decide, require_unseen
from stocktake.evaluation.results import Evaluation, read_evaluations
from stocktake.report.comparison import describe_comparison, render_comparison
from stocktake.storage import Folder, join_url

PAGE_KEY, DECISION_KEY = "comparison.html", "promotion.json"
NAMES = ["champion", "challenger"]


def promote(cfg: DictConfig) -> Decision:
    """Writes promotion.json and, where there is a champion, comparison.html; returns (and prints) the decision.

    Raises:
        NotComparable: An evaluation is not of test bins, or of some that its model was trained on.
        EvaluationError: The evaluations are not of the same bins, records or counts.
    """
    storage = build(cfg.storage)
    criteria = Criteria(cfg.margin, cfg.level, cfg.max_ece_increase)
    if cfg.champion is None:
        evaluations = [Evaluation.read(cfg.challenger, storage)]
    else:
        evaluations = read_evaluations([cfg.champion, cfg.challenger], storage)
    for evaluation in evaluations:
        require_unseen(evaluation)
    comparison = None if cfg.champion is None else _compared(evaluations)
    if comparison is None:
        decision = Decision(True, evaluations[-1].url, None, [], criteria)
    else:
        decision = decide(comparison, criteria)
    recorded = {
        **decision.to_json(),
        "model": _lineage(evaluations[-1]),
        "comparison": None if comparison is None else comparison.to_json(),
    }
    output = Folder(cfg.output_dir, storage)
    files = {DECISION_KEY: (json.dumps(recorded, indent=2) + "\n").encode()}
    if comparison is not None:
        files[PAGE_KEY] = render_comparison(comparison, " ".join(["python", *sys.argv])).encode()
        print(*describe_comparison(comparison), sep="\n")
    output.write_together(files)
    _tell(decision)
    if comparison is not None:
        print(f"Open {join_url(output.url, PAGE_KEY)}")
    print(json.dumps({key: value for key, value in recorded.items() if key != "comparison"}))
    return decision


def _compared(evaluations: list[Evaluation]) -> Comparison:
    return measure_comparison(evaluations, [PairedBootstrap.of(evaluation) for evaluation in evaluations], NAMES)


def _lineage(evaluation: Evaluation) -> dict[str, str | float | None]:
    """Returns what a registry keeps of a model: which checkpoint it is, of which data, and how well it counts."""
    subject = evaluation.result.subject
    return {
        "checkpoint": subject.checkpoint,
        "checkpoint_sha256": subject.checkpoint_sha256,
        "train_manifest_sha256": subject.train_manifest_sha256,
        "manifest_sha256": subject.manifest_sha256,
        "accuracy": evaluation.result.metrics["accuracy"].value,
    }


def _tell(decision: Decision) -> None:
    if decision.is_promoted and decision.champion is None:
        print("Promoted: there is no champion, and the challenger has seen none of the test bins.")
    elif decision.is_promoted:
        print(f"Promoted: accuracy {decision.accuracy}, p = {decision.p_value:.3f}, as well calibrated.")
    else:
        print(f"Not promoted: {'; '.join(decision.reasons)}.")

"""scripts/learning_curve.py: what more training bins bring, from evaluations of one recipe on several sizes."""

import json
import sys
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from stocktake.config import build
from stocktake.evaluation.learning_curve import measure_curve
from stocktake.evaluation.results import read_evaluations
from stocktake.report.learning_curve import render_learning_curve
from stocktake.storage import Folder, join_url

PAGE_KEY = "learning_curve.html"


def learning_curve(cfg: DictConfig) -> dict[str, Any]:
    """Writes learning_curve.json and .html; returns (and prints, as one line of JSON) the summary."""
    storage = build(cfg.storage)
    evaluations = read_evaluations(cfg.evaluations, storage)
    plain = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    curve = measure_curve(evaluations, plain["predict_at"], plain["floors"])
    how = {
        "command": " ".join(["python", *sys.argv]),
        "published_as": plain["published_as"],
        "published": plain["published"],
    }
    written = curve.to_json() | how
    content = (json.dumps(written, indent=2) + "\n").encode()
    output = Folder(cfg.output_dir, storage)
    output.write_together({PAGE_KEY: render_learning_curve(curve, **how).encode(), "learning_curve.json": content})

    summary: dict[str, Any] = {"num_train_bins": [evaluation.num_train_bins for evaluation in curve.evaluations]}
    for name, metric in curve.metrics.items():
        first = metric.forms[0].predicted
        summary |= {f"{name} at {point.num_train_bins}": point.estimate.to_json() for point in first}
    summary |= {"extrapolation": written["extrapolation"], "report": join_url(cfg.output_dir, PAGE_KEY)}
    print(f"Open {summary['report']}")
    print(json.dumps(summary))
    return summary

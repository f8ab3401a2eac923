"""Rules of the keys of the commands in scripts/; those of a training are in training_keys.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stocktake.cli.cloud_keys import AWS, DEPLOY, PROMOTE
from stocktake.cli.cost_keys import COST
from stocktake.cli.rules import (
    ACCELERATOR,
    CHECKPOINT,
    FOLDER,
    LIMIT,
    NUM_WORKERS,
    PRECISION,
    SPLIT,
    STORAGE,
    Rule,
    above,
    anything,
    choice,
    either,
    list_of,
    map_of,
    number,
    switch,
    text,
    whole,
)
from stocktake.cli.training_keys import TRAIN, TUNE


@dataclass(frozen=True)
class Inputs:
    """
    Attributes:
        rules: Of every key.
        first: The key that a bare argument means, such as the image in `predict.py bin.jpg`.
        former: Keys of before, by what they are called now.
        is_elsewhere: The training that is described need not be this machine's: its files are not looked for.
    """

    rules: dict[str, Rule]
    first: str
    former: Mapping[str, str] = field(default_factory=dict)
    is_elsewhere: bool = False


EVALUATE = {
    "checkpoint": text(CHECKPOINT),
    "root": text("data/abid", None),
    "split": choice("test", "valid", "train", "all"),
    "limit": LIMIT,
    "output_dir": text("runs/demo/evaluation", None),
    "flip_tta": switch(example=False),
    "linear_baseline": switch(example=False),
    "overwrite": switch(example=False),
    "batch_size": whole(1, example=64),
    "num_workers": NUM_WORKERS,
    "accelerator": ACCELERATOR,
    "precision": PRECISION,
}
ENSEMBLE = {
    "checkpoints": list_of(text(CHECKPOINT), ["runs/a/checkpoints/best.ckpt", "runs/b/checkpoints/best.ckpt"], least=1),
    **{key: EVALUATE[key] for key in ("root", "limit", "batch_size", "num_workers", "accelerator", "precision")},
    "output_dir": text("runs/ensemble"),
}
EXPORT = {
    "checkpoint": text(CHECKPOINT),
    "output_dir": FOLDER,
    "version": text("v1", None),
    "root": text("data/abid", None),
    "num_checked": whole(1, example=200),
    "num_baseline": whole(1, example=1000),
    "calibration": text("recalibration.json", None),
    "metrics": text("runs/demo/latest/evaluation-test/metrics.json", None),
    "weights_license": text("Apache-2.0", None),
    "int8": switch(example=False),
    "overwrite": switch(example=False),
    "num_calibrated": whole(1, example=128),
}
PREDICT = {
    "images": either(list_of(text("bin.jpg"), ["bin.jpg"], least=1), text("bin.jpg")),
    "checkpoint": text(CHECKPOINT, None),
    "exported": FOLDER,
    "endpoint": text("http://127.0.0.1:8080", None),
    "async_input": text("s3://my-bucket/asked", None),
    "json": switch(example=False),
    "batch_size": whole(1, example=32),
    "device": text("auto"),
    "max_mib": above(0, 32, example=32),
    "timeout_s": above(0, example=30),
    "num_requests": whole(1, example=8),
    "max_tries": whole(1, example=5),
}
PREPARE = {
    "source": text("s3://aft-vbi-pds"),
    "format": choice("abid", "folders", "csv", None),
    "root": text("data/abid"),
    "list": text("all", None),
    "counts": list_of(whole(0), [1, 2, 3, 4, 5], None, least=1),
    "limit": LIMIT,
    "known_bad": list_of(text("00004"), ["00004"]),
    "max_bad_fraction": number(0, 1, example=0.02),
    "num_requests": whole(1, example=128),
    "dry_run": switch(example=False),
    "remove_leftovers": switch(example=False),
}
EVALUATIONS = list_of(text("runs/a/evaluation-test"), ["runs/a/evaluation-test", "runs/b/evaluation-test"], least=1)
COMPARE = {
    "evaluations": EVALUATIONS,
    "names": list_of(either(text("baseline"), number(None, example=1)), ["baseline", "best"], None, least=1),
    "output_dir": text("runs/comparison"),
}
LEARNING_CURVE = {
    "evaluations": EVALUATIONS,
    "output_dir": text("runs/learning-curve"),
    "predict_at": list_of(whole(1), [10000], least=1),
    "floors.accuracy": number(0, 1, example=0.4),
    "floors.rmse_expected": number(0, example=0.7),
    "published_as": text("counts 0 to 5"),
    "published": list_of(map_of(number(0, example=0.35), {}), [{"num_train_bins": 10000, "accuracy": 0.35}]),
}
MONITOR = {
    "log": text("runs/prediction-log"),
    "baseline": text("runs/demo/latest/model"),
    "feedback": text("counted.csv", None),
    "recalibration": text("recalibration.json", None),
    "last_days": above(0, example=7, literals=[None]),
    "output_dir": text("runs/monitoring"),
    "false_alarms": above(0, 0.5, example=0.01),
    "min_answers": whole(20, example=100),
    "max_error_share": number(0, 1, example=0.05),
    "max_latency_s": above(0, example=0.5, literals=[None]),
    "schedule.request": text("monitor.json", None),
    "schedule.name": text("stocktake-monitor"),
    "schedule.expression": text("rate(7 days)"),
    "schedule.role_arn": text("arn:aws:iam::123456789012:role/Stocktake", None),
    "schedule.scheduler_role_arn": text("arn:aws:iam::123456789012:role/StocktakeScheduler", None),
    "schedule.image_uri": text("123456789012.dkr.ecr.us-east-1.amazonaws.com/stocktake-monitoring:1", None),
}
REHEARSE = {
    "scenario": choice("train", "deploy"),
    "hosts": whole(1, example=2),
    "faults": list_of(anything("kill"), ["notice", "kill"]),
    "clean": switch(example=False),
    "compare": switch(example=False),
    "full": switch(example=False),
    "epochs": whole(1, example=2),
    "steps_per_epoch": whole(1, example=12),
    "checkpoint_every": whole(1, example=4),
    "folder": text("runs/rehearsal"),
}
SERVE = {
    "model": text("runs/demo/latest/model"),
    "host": text("127.0.0.1"),
    "port": whole(0, 65535, example=8080),
    "workers": whole(1, literals=[None], example=2),
    "max_waiting": whole(0, example=32),
    "max_body_mib": above(0, example=6),
    "body_timeout_s": above(0, example=30),
    "shutdown_timeout_s": whole(0, example=30),
    "allowed_prefixes": list_of(text("s3://my-bucket/bins/"), ["s3://my-bucket/bins/"]),
    "log": choice("plain", "json", None),
    "prediction_log": text("runs/prediction-log", None),
    "prediction_log_share": number(0, 1, example=0.1),
    "prediction_log_images": switch(example=False),
}

COMMANDS = {
    "train": Inputs(TRAIN, "experiment"),
    "tune": Inputs(TUNE, "experiment"),
    "cost": Inputs(COST, "experiment", is_elsewhere=True),
    "evaluate": Inputs(EVALUATE | STORAGE, "checkpoint", {"side": "split"}),
    "ensemble": Inputs(ENSEMBLE | STORAGE, "checkpoints"),
    "export": Inputs(EXPORT | STORAGE, "checkpoint"),
    "predict": Inputs(PREDICT | STORAGE, "images"),
    "prepare": Inputs(PREPARE | SPLIT | STORAGE, "source"),
    "compare": Inputs(COMPARE | STORAGE, "evaluations"),
    "promote": Inputs(PROMOTE | STORAGE, "challenger"),
    "learning_curve": Inputs(LEARNING_CURVE | STORAGE, "evaluations", {"floors.rmse_mean": "floors.rmse_expected"}),
    "monitor": Inputs(MONITOR | STORAGE, "log"),
    "rehearse": Inputs(REHEARSE, "experiment"),
    "serve": Inputs(SERVE | STORAGE, "model"),
    "deploy": Inputs(DEPLOY, "model"),
    "aws": Inputs(AWS, "action"),
    "doctor": Inputs({"network": switch(example=False)}, "network"),
}

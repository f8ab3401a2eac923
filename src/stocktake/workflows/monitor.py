"""scripts/monitor.py: whether what a server answers, and is shown, is still like what the model was made for."""

import json
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from omegaconf import DictConfig

from stocktake.cloud.monitoring_job import ScheduleError, monitoring_schedule
from stocktake.cloud.secrets import typed_command
from stocktake.config import build
from stocktake.console import printable
from stocktake.monitoring.feedback import match, measure_feedback, read_feedback, recalibrate, recalibration_file
from stocktake.monitoring.measure import measure_monitoring
from stocktake.monitoring.monitored_model import MonitoredModel
from stocktake.monitoring.monitoring_result import FeedbackResult, MonitoringResult, title_of
from stocktake.monitoring.window import Window, read_window
from stocktake.object_stores import is_s3
from stocktake.report.monitoring import render_monitoring
from stocktake.storage import Folder, StorageOptions, join_url, split_url

PAGE_KEY, FIGURES_KEY = "monitoring.html", "monitoring.json"


def monitor(cfg: DictConfig) -> MonitoringResult:
    """Writes monitoring.html and monitoring.json; returns the result (and prints a summary as one line of JSON).

    Raises:
        ModelFolderError: The baseline's folder is no exported model, or an older one without a baseline.
        ValueError: The window has too few answers, or the feedback is none of them.
    """
    storage = build(cfg.storage)
    model = MonitoredModel.open(Folder(cfg.baseline, storage))
    since = None if cfg.last_days is None else datetime.now(UTC) - timedelta(days=cfg.last_days)
    window = read_window(cfg.log, storage, model, since)
    feedback = None if cfg.feedback is None else _feedback(cfg, storage, window, model)
    result = measure_monitoring(
        model,
        window,
        cfg.log,
        false_alarms=cfg.false_alarms,
        min_answers=cfg.min_answers,
        max_error_share=cfg.max_error_share,
        max_latency_s=cfg.max_latency_s,
        feedback=feedback,
    )
    output = Folder(cfg.output_dir, storage)
    page = render_monitoring(result, typed_command(sys.argv)).encode()
    output.write_together({PAGE_KEY: page, FIGURES_KEY: (json.dumps(result.to_json(), indent=2) + "\n").encode()})
    _tell(result)
    summary = {
        "is_drift": bool(result.alarms),
        "drifted": result.drifted,
        "alarms": result.alarms,
        "model_version": result.model_version,
        "num_answers": result.num_answers,
        "expected_accuracy": result.expected_accuracy.to_json(),
        "error_share": result.error_share.value,
        "latency_s": result.latency_s,
        "live_accuracy": None if feedback is None else feedback.accuracy.to_json(),
        "recalibration": cfg.recalibration,
        "report": join_url(output.url, PAGE_KEY),
    }
    print(f"Open {summary['report']}")
    print(json.dumps(summary))
    return result


def schedule(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Writes the request that has AWS run what was typed here again and again, and says how to send it.

    Args:
        overrides: As typed; those of `schedule` are not the job's.

    Raises:
        ScheduleError: AWS would refuse it, something is not set, or a job could not reach what it names.
    """
    values = {key: value for key, value in cfg.schedule.items() if key != "request"}
    missing = [f"schedule.{key} is not set" for key, value in values.items() if value is None]
    folders = {
        key: cfg[key] for key in ("log", "baseline", "feedback", "recalibration", "output_dir") if cfg[key] is not None
    }
    missing += [
        f"{key}={url} is not in s3://, where a job reaches it" for key, url in folders.items() if not is_s3(url)
    ]
    if missing:
        raise ScheduleError("\n  ".join([f"Before it can be scheduled, {len(missing)}:", *missing]))
    arguments = [override for override in overrides if not override.lstrip("+~").startswith("schedule.")]
    request = monitoring_schedule(arguments=arguments, **values)
    folder, name = split_url(cfg.schedule.request)
    Folder(folder, build(cfg.storage)).write(name, (json.dumps(request, indent=2) + "\n").encode())
    print(f"Written: {cfg.schedule.request}, checked against AWS's service models. Nothing was sent. To send it:")
    print(f"aws scheduler create-schedule --cli-input-json {shlex.quote(f'file://{cfg.schedule.request}')}")
    print(json.dumps({"schedule": values["name"], "expression": values["expression"], "request": cfg.schedule.request}))


def _feedback(cfg: DictConfig, storage: StorageOptions, window: Window, model: MonitoredModel) -> FeedbackResult:
    """Returns what true counts say; writes a calibration fitted to them, if that was asked for."""
    folder, name = split_url(cfg.feedback)
    feedback = read_feedback(Folder(folder, storage).read(name), cfg.feedback)
    matched = match(feedback, window)
    if cfg.recalibration is not None:
        folder, name = split_url(cfg.recalibration)
        Folder(folder, storage).write(name, recalibration_file(recalibrate(matched, model), model))
    return measure_feedback(matched, len(feedback.true_counts), model, cfg.recalibration)


def _tell(result: MonitoringResult) -> None:
    """Says what could not be used, on stderr, and what was found."""
    if result.num_damaged:
        shown = printable("; ".join(result.damaged))
        print(f"Damaged lines that are left out: {result.num_damaged:,}, such as {shown}", file=sys.stderr)
    if result.num_dropped:
        print(f"Answers that the server was too busy to log: {result.num_dropped:,}", file=sys.stderr)
    for version, number in result.other_models.items():
        print(f"Answers of {printable(version) or 'no model'} that are left out: {number:,}", file=sys.stderr)
    print(*result.alarms or ["Quiet: nothing has moved further than chance moves it."], sep="\n")
    for name in result.drifted:
        figure, shift = result.figures[name], result.figures[name].shift
        print(
            f"  {title_of(name)}: mean {figure.baseline_mean:.4g} before, {figure.mean:.4g} now; "
            f"PSI {shift.psi:.3f} (limit {shift.psi_limit:.3f}), KS {shift.ks:.3f} (limit {shift.ks_limit:.3f}), "
            f"SMD {shift.smd:.2f} (limit {shift.smd_limit:.2f})"
        )

"""What a tuning job found, as every search tells it: from the trials' own results, not from what regexes saw.

Its name begins with _, so that Hydra does not import it at each start.
"""

import math
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path

from hydra_plugins.stocktake_sagemaker._tuning_plan import TuningPlan
from stocktake.cloud.client import JobError, Jobs
from stocktake.cloud.costs import JobCost, billed_s
from stocktake.cloud.prices import Prices
from stocktake.cloud.tuning_monitor import FollowedSearch, FollowedTrial
from stocktake.run_folder import BEST_KEY, BEST_NAME
from stocktake.tuning.sagemaker_space import read_values
from stocktake.tuning.trials import SearchResult, State, Trial

TOLERANCE = 1e-5  # of a figure: the log has six digits of it


def search_result(plan: TuningPlan, search: FollowedSearch, jobs: Jobs, engine: str, prices: Prices) -> SearchResult:
    """Fetches what each trial left; one without a result is failed, and the others come all the same."""
    hourly_usd = cache(jobs.hourly_usd)
    trials = [_trial(plan, search, trial, jobs, hourly_usd) for trial in search.in_order]
    for job in search.in_order:
        cost = JobCost.of(job.description, str(plan.probes[0].cfg.get("name", "job")), prices)
        cost.write(plan.folder / str(job.number))
        print(f"{job.name}: {cost.describe()}")
    result = SearchResult(plan.title, engine, plan.metric, plan.space, trials, plan.typed.fixed, plan.num_trials)
    if best := result.best:
        job = next(trial for trial in search.in_order if trial.number == best.number)
        _fetch_checkpoint(job, Path(best.folder), jobs)
    return result


def _trial(
    plan: TuningPlan,
    search: FollowedSearch,
    job: FollowedTrial,
    jobs: Jobs,
    hourly_usd: Callable[[str], float | None],
) -> Trial:
    folder = plan.folder / str(job.number)
    state, score, reason = _outcome(plan, search, job)
    if state == "complete":
        try:
            score = jobs.results(job.name, folder).get(plan.metric)
        except JobError as error:
            state, reason = "failed", str(error)
        else:
            if not isinstance(score, int | float) or not math.isfinite(score):
                state, score, reason = "failed", None, f"its {plan.metric} is {score}"
            elif job.objective is not None and not math.isclose(score, job.objective, rel_tol=TOLERANCE):
                seen = f"SageMaker read {job.objective:.6g} in its log"
                print(f"{job.name}: {plan.metric} {score:.6g} by its own results, which count; {seen}.")
    seconds, price_usd = billed_s(job.description), hourly_usd(job.instances.split(" × ")[-1])
    steps = [of_step[plan.metric] for _, of_step in sorted(job.validations.items()) if plan.metric in of_step]
    return Trial(
        number=job.number,
        state=state,
        values=read_values(plan.space, job.tuned),
        score=score,
        steps=dict(enumerate(steps, 1)),
        started_at=_started_at(job),
        duration_s=job.description.get("TrainingTimeInSeconds"),
        folder=str(folder) if folder.exists() else "",
        reason=reason,
        cost_usd=None if seconds is None or price_usd is None else seconds / 3600 * price_usd,
    )


def _outcome(plan: TuningPlan, search: FollowedSearch, job: FollowedTrial) -> tuple[State, float | None, str]:
    """Returns the state that SageMaker's words come to, the score that is known of it, and why it is not complete."""
    config = plan.request["HyperParameterTuningJobConfig"]
    stops_early = config["Strategy"] == "Hyperband" or config["TrainingJobEarlyStoppingType"] == "Auto"
    if job.status == "Completed":
        return "complete", None, ""
    if job.status == "Failed":
        return "failed", None, job.reason or job.message
    if job.status != "Stopped" or search.status == "Stopped":
        return "running", job.objective, "stopped with the search"
    if job.secondary_status != "Stopped":  # such as MaxRuntimeExceeded
        return "failed", None, f"{job.secondary_status}: {job.message}"
    if stops_early:
        return "pruned", job.objective, "stopped early: worse than other trials were by then"
    if "TuningJobCompletionCriteria" in config or "MaxRuntimeInSeconds" in config["ResourceLimits"]:
        return "pruned", job.objective, "stopped when the search ended"
    return "failed", None, "stopped by hand"


def _started_at(job: FollowedTrial) -> str:
    at = job.description.get("TrainingStartTime") or job.description.get("CreationTime")
    return at.astimezone(UTC).isoformat(timespec="seconds") if isinstance(at, datetime) else ""


def _fetch_checkpoint(job: FollowedTrial, folder: Path, jobs: Jobs) -> None:
    """Brings the best trial's checkpoint, to be measured or trained on; what cannot be had is told."""
    url, _, name = job.description["ModelArtifacts"]["S3ModelArtifacts"].rpartition("/")
    target = folder / BEST_KEY
    try:
        with tarfile.open(fileobj=BytesIO(jobs.open_folder(url).read(name))) as archive:
            member = archive.extractfile(BEST_NAME)
            content = member.read() if member else b""
    except (OSError, KeyError, tarfile.TarError) as error:
        print(f"{job.name}: no {BEST_NAME} could be fetched from {url}/{name}: {error}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)

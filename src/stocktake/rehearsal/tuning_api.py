"""SageMaker's operations of tuning jobs: create, describe, list, stop, and list the trials of one."""

import threading
from collections.abc import Mapping
from typing import Any

from stocktake.rehearsal.api_protocols import Operations
from stocktake.rehearsal.job_state import ENDED, RequestRefused
from stocktake.rehearsal.job_store import JobStore
from stocktake.rehearsal.listing import page
from stocktake.rehearsal.proposals import Proposals
from stocktake.rehearsal.training_api import Runner
from stocktake.rehearsal.tuning_run import TuningRun
from stocktake.rehearsal.tuning_state import TuningJob

NAME = "HyperParameterTuningJobName"


class TuningJobs:
    """Answers for tuning jobs, whose trials a runner plays like any training job."""

    def __init__(self, runner: Runner, jobs: JobStore):
        self.runner, self.jobs = runner, jobs
        self._tunings: dict[str, TuningJob] = {}
        self._threads: list[threading.Thread] = []
        self._closing, self._lock = threading.Event(), threading.Lock()

    def operations(self) -> Operations:
        return {
            "CreateHyperParameterTuningJob": self._create,
            "DescribeHyperParameterTuningJob": lambda request: self._get(request).describe(),
            "ListHyperParameterTuningJobs": self._list,
            "ListTrainingJobsForHyperParameterTuningJob": self._list_trials,
            "StopHyperParameterTuningJob": self._stop,
        }

    def close(self) -> None:
        """Proposes no further trials; those that run are the runner's to end."""
        self._closing.set()
        for thread in self._threads:
            thread.join()

    def _create(self, request: Mapping[str, Any]) -> dict[str, Any]:
        tuning = TuningJob(request)
        try:
            self.runner.check(tuning.trial_request(f"{tuning.name}-000", {}))
        except ValueError as error:
            raise RequestRefused("ValidationException", str(error)) from error
        config = tuning.config
        proposals = Proposals(config["ParameterRanges"], config["Strategy"], tuning.maximize, config.get("RandomSeed"))
        proposals.learn(self._earlier(request, tuning))
        with self._lock:
            if tuning.name in self._tunings:
                raise RequestRefused("ResourceInUse", f"Hyperparameter tuning job {tuning.arn} already exists.")
            self._tunings[tuning.name] = tuning
        run = TuningRun(tuning, proposals, self.runner, self.jobs, self._closing)
        self._threads.append(threading.Thread(target=run.run, name=tuning.name))
        self._threads[-1].start()
        return {"HyperParameterTuningJobArn": tuning.arn}

    def _earlier(self, request: Mapping[str, Any], tuning: TuningJob) -> list[tuple[Mapping[str, str], float]]:
        """Returns the trials of the tuning jobs that this one learns from.

        Raises:
            RequestRefused: One is not there, has not ended or searched for another metric.
        """
        found = []
        for parent in request.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", ()):
            earlier = self._get(parent)
            if earlier.status not in ENDED or (earlier.metric, earlier.maximize) != (tuning.metric, tuning.maximize):
                text = f"Parent {earlier.name} has to have ended ({earlier.status}), and to have the same objective."
                raise RequestRefused("ValidationException", text)
            scored = [(trial.name, earlier.final(trial)) for trial in earlier.trials]
            found += [(earlier.tuned[name], value) for name, value in scored if value is not None]
        return found

    def _get(self, request: Mapping[str, Any]) -> TuningJob:
        with self._lock:
            if request[NAME] not in self._tunings:
                text = f"Amazon SageMaker can't find a tuning job with name {request[NAME]}."
                raise RequestRefused("ResourceNotFound", text)
            return self._tunings[request[NAME]]

    def _stop(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._get(request).stop()
        return {}

    def _list(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            summaries = [tuning.summary() for tuning in self._tunings.values()]
        return page(summaries, request, "HyperParameterTuningJob", "HyperParameterTuningJobSummaries")

    def _list_trials(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if request.get("SortBy") == "FinalObjectiveMetricValue":
            raise RequestRefused("ValidationException", "SortBy=FinalObjectiveMetricValue is not rehearsed.")
        tuning = self._get(request)
        summaries = [tuning.trial_summary(trial) for trial in list(tuning.trials)]
        return page(summaries, request, "TrainingJob", "TrainingJobSummaries")

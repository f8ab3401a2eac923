"""What PID 1 of a rehearsed instance runs: what the request names, or what its image would begin with."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from stocktake.cloud.requests import CONTAINER_ENTRYPOINT

PROGRAM, SUBMIT_DIRECTORY = "sagemaker_program", "sagemaker_submit_directory"
TOOLKIT = ("python3", "-m", "sagemaker_training.cli.train")
NO_TOOLKIT = (
    "AWS's toolkit, which starts the program in its image, is not installed here: it was started without (to have it "
    "too: pip install sagemaker-training)"
)


def entrypoint(request: Mapping, python: Path | None) -> list[str]:
    """Returns the command of a training job's first process.

    A trial of a tuning job names none: where hyperparameters name a program it is AWS's toolkit, in AWS's image, and
    else the ENTRYPOINT of an image of this project's, whose code lies in the channel `code`, too.

    Args:
        python: Of an environment like the image's; `None` takes this one.
    """
    algorithm, given = request["AlgorithmSpecification"], request.get("HyperParameters", {})
    if "ContainerEntrypoint" in algorithm:
        return [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", ())]
    if PROGRAM not in given:
        return [*CONTAINER_ENTRYPOINT]
    if lacks_toolkit(request, python):
        return ["python3", f"{given[SUBMIT_DIRECTORY]}/{given[PROGRAM]}"]
    return [*TOOLKIT]


def lacks_toolkit(request: Mapping, python: Path | None) -> bool:
    """Whether the toolkit would start this job, and is not here."""
    has_entrypoint = "ContainerEntrypoint" in request["AlgorithmSpecification"]
    is_named = PROGRAM in request.get("HyperParameters", {}) and not has_entrypoint
    return is_named and (python is not None or find_spec("sagemaker_training") is None)

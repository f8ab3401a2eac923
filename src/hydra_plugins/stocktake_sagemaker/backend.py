"""What the launcher asks of whatever runs its jobs: an account on SageMaker, or this machine in its place.

Hydra imports this module at each start, so nothing heavy is imported at its top; and it does so without leaving it in
sys.modules, where `dataclass` would look up annotations that are text: those of fields are none.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from omegaconf import DictConfig

from hydra_plugins.stocktake_sagemaker.plan import Plan
from hydra_plugins.stocktake_sagemaker.problems import Problem
from stocktake.cloud.source_archive import Code

if TYPE_CHECKING:
    from stocktake.cloud.client import Jobs
    from stocktake.cloud.monitor import FollowedJob


@dataclass(frozen=True)
class JobSettings:
    """What a backend makes of one job's configuration.

    Attributes:
        compute: The configuration group, resolved.
        overrides: To be put behind the user's.
        environment: Further variables of the container.
        notices: What the user should know, whatever becomes of the job.
    """

    compute: Mapping[str, Any]
    overrides: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()


@dataclass(frozen=True)
class Batch:
    """The jobs that Hydra wants at the same time.

    Attributes:
        name: The jobs' names begin with it; typed as hydra.launcher.job_name it attaches to them again.
        code: What is sent with them.
        config: Of the launch, with Hydra's part.
        may_exist: Whether the user named them, so that those that are there already are theirs.
    """

    name: str
    plans: Sequence[Plan]
    code: Code
    config: DictConfig
    may_exist: bool


class JobBackend(Protocol):
    """Runs training jobs; everything that differs between SageMaker and a rehearsal of it."""

    @property
    def region(self) -> str:
        """The AWS region that the requests are for."""
        ...

    @property
    def outlives_program(self) -> bool:
        """Whether jobs run on when this program ends, so that it may attach to them again."""
        ...

    def hourly_usd(self, instance_type: str) -> float | None:
        """Returns what an instance costs an hour on demand; None where nobody knows, or nothing is billed."""
        ...

    def settings(self, cfg: DictConfig) -> JobSettings:
        """Returns what the job of this configuration runs on; ValueError where it cannot be known."""
        ...

    def problems(self, batch: Batch) -> Iterator[Problem]:
        """Yields all that can be found out before anything is reached; a dry run ends with it."""
        ...

    def connect(self, batch: Batch, problems: Sequence[Problem]) -> AbstractContextManager["Jobs"]:
        """Gives the way to the jobs, once it is clear that they can be sent; LaunchError tells all that is wrong.

        Args:
            problems: Those that were found before.
        """
        ...

    def is_agreed(self, plan: str) -> bool:
        """Shows what is about to be sent, and asks for it where it costs something and somebody is there."""
        ...

    def interrupted(self, jobs: "Jobs", batch: Batch, followed: Sequence["FollowedJob"]) -> None:
        """Says what becomes of the jobs after a Ctrl-C, before this program ends."""
        ...

    def left_running(self, jobs: "Jobs", batch: Batch, followed: Sequence["FollowedJob"]) -> None:
        """Says, before an error ends this program, what was sent and runs on."""
        ...

"""The keys below `hydra.sweeper` of `hydra/sweeper=sagemaker`: one tuning job of SageMaker's.

What a trial runs on stands in the configuration group `compute`; where it is sent, in hydra.launcher.
"""

from dataclasses import dataclass, field
from typing import Any, Optional

from hydra.core.config_store import ConfigStore

from hydra_plugins.stocktake_sagemaker.search_options import SweepOptions


@dataclass
class TuningOptions(SweepOptions):
    """hydra/sweeper=sagemaker."""

    _target_: str = "hydra_plugins.stocktake_sagemaker.tuning_sweeper.TuningSweeper"
    strategy: str = "bayesian"  # what proposes trials: bayesian, random, grid (choices alone) or hyperband
    early_stopping: bool = False  # SageMaker stops trials that are worse than the median of those before; not hyperband
    min_resource: int = 1  # hyperband: validations that each trial gets
    max_resource: Optional[int] = None  # noqa: UP045 - hyperband: of a whole trial; null: trainer.max_epochs and one
    target: Optional[float] = None  # noqa: UP045 - the search ends once the metric is as good
    patience: Optional[int] = None  # noqa: UP045 - it ends after so many trials that were no hundredth better; from 3 on
    converged: bool = False  # it ends once SageMaker takes it for converged
    warm_start: list[Any] = field(default_factory=list)  # names of earlier tuning jobs to learn from, at most 5
    other_data: bool = False  # these were on other data, or with another model
    start_by: str = (
        "auto"  # toolkit: AWS's own images; image: one whose ENTRYPOINT is the Dockerfile's; auto: by the URI
    )
    job_name: Optional[str] = None  # noqa: UP045 - null: hydra.launcher's, or name and time. A known one attaches
    dry_run: Optional[bool] = None  # noqa: UP045 - null: hydra.launcher's
    poll_s: Optional[float] = None  # noqa: UP045 - between two looks; null: hydra.launcher's


ConfigStore.instance().store(group="hydra/sweeper", name="sagemaker", node=TuningOptions, provider="stocktake")

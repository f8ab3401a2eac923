"""The keys below `hydra.sweeper` that both searches have: `hydra/sweeper=search` and `hydra/sweeper=sagemaker`.

Hydra imports every module of this package at each start, so nothing heavy is imported at their top.
"""

from dataclasses import dataclass, field
from typing import Any, Optional

from hydra.core.config_store import ConfigStore

from hydra_plugins.stocktake_sagemaker.options import needs_multirun

NEEDS_MULTIRUN = "search_needs_multirun"
REFUSAL = "searches only with -m; without it one training would run"


@dataclass
class SweepOptions:
    """What a `conf/sweep/<name>.yaml` may set, whichever engine runs it."""

    defaults: list[Any] = field(
        default_factory=lambda: [
            {f"/hydra/callbacks@_global_.hydra.callbacks.{NEEDS_MULTIRUN}": NEEDS_MULTIRUN},
            "_self_",
        ]
    )
    name: str = "search"  # the sweep's, part of its folder's name
    space: dict[str, Any] = field(default_factory=dict)  # key: {range: [low, high], log, step} or {choice: [...]}, when
    start: list[Any] = field(default_factory=list)  # known good points, tried first: [{model.optimizer.lr: 0.001}]
    num_trials: int = 20
    parallel: int = 1  # trials at a time, where the launcher can
    max_hours: Optional[float] = None  # noqa: UP045 (OmegaConf reads it); no trial is begun after it
    max_usd: Optional[float] = None  # noqa: UP045 - no trial is begun that could pass it
    max_failed_share: float = 0.5  # more failed trials than this end the search, from the fourth on
    seed: int = 0  # of the engine's proposals; with parallel=1 the same trials come again
    evaluate: bool = False  # measure the best trial on the test side, too, once the search is done


@dataclass
class SearchOptions(SweepOptions):
    """hydra/sweeper=search."""

    _target_: str = "hydra_plugins.stocktake_sagemaker.search_sweeper.SearchSweeper"
    sampler: str = "tpe"  # what proposes trials: tpe, cmaes (ranges alone), random or grid
    pruner: str = "none"  # what ends trials early: none, median or hyperband


ConfigStore.instance().store(
    group="hydra/callbacks",
    name=NEEDS_MULTIRUN,
    node=needs_multirun("hydra/sweeper", REFUSAL),
    provider="stocktake",
)
ConfigStore.instance().store(group="hydra/sweeper", name="search", node=SearchOptions, provider="stocktake")

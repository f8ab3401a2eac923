"""What a launch can cost, before anything is sent, and what each of its jobs did cost."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.stocktake_sagemaker.options import LauncherOptions
from hydra_plugins.stocktake_sagemaker.plan import Plan
from hydra_plugins.stocktake_sagemaker.problems import Problem
from stocktake.cloud.cost_bound import Bound, Traffic, bound, refusal
from stocktake.cloud.cost_estimate import GET_REQUESTS_PER_IMAGE
from stocktake.cloud.costs import JobCost
from stocktake.cloud.monitor import FollowedJob, wanted_instances
from stocktake.cloud.prices import Prices, flat_prices
from stocktake.config import as_plain
from stocktake.training.cost_workload import workload_of

FILES_PER_SAVE = 4  # requests to store a checkpoint: its parts, and what is deleted for it
PARTS = ("data", "trainer", "model", "compute", "callbacks")


def launch_prices(options: LauncherOptions, region: str) -> Prices:
    typed_as = "hydra.launcher.prices={{{}: <USD an hour>}}"
    return replace(Prices.known(region, flat_prices(options.prices or {})), typed_as=typed_as)


def cost_problems(
    plans: Sequence[Plan], options: LauncherOptions, prices: Prices, earlier_usd: float
) -> Iterator[Problem]:
    """Yields why the launch may cost more than hydra.launcher.max_usd.

    Args:
        earlier_usd: What was sent before in the same sweep can cost.
    """
    if options.max_usd is None:
        return
    try:
        found = launch_bound(plans, prices)
    except ValueError as error:
        yield Problem(f"hydra.launcher.max_usd={options.max_usd:g}: {error}")
        return
    requests = [request for plan in plans for request in plan.requests]
    if message := refusal(found, options.max_usd, requests, earlier_usd):
        yield Problem(message)


def launch_bound(plans: Sequence[Plan], prices: Prices) -> Bound:
    """Returns what the jobs can cost at most.

    Raises:
        ValueError: A price is not known, or what a job reads from S3.
    """
    return bound([(plan.requests, traffic(plan.cfg)) for plan in plans], prices)


def traffic(cfg: DictConfig) -> Traffic:
    """Returns what a job of this project's train.py asks of S3.

    Raises:
        ValueError: It is another's train.py.
    """
    if any(part not in cfg for part in PARTS) or OmegaConf.select(cfg, "data._target_") is None:
        raise ValueError("what this configuration reads from S3 is not known, so that no bound would hold")
    plain = {part: as_plain(cfg[part]) for part in PARTS}
    work = workload_of(plain, [])
    every = (plain["callbacks"].get("spot") or {}).get("every_n_train_steps", work.num_steps or 1)
    saves = work.num_steps // every + 2 * work.num_validations + 2
    return Traffic(round(work.num_images_read * GET_REQUESTS_PER_IMAGE), FILES_PER_SAVE * saves)


def plan_text(plans: Sequence[Plan], prices: Prices) -> str:
    """Returns what is about to be sent and what it can cost, as a person is asked about it."""
    lines = []
    for plan in plans:
        request = plan.requests[0]
        spot = ", spot" if request["EnableManagedSpotTraining"] else ""
        limit_s = request["StoppingCondition"]["MaxRuntimeInSeconds"]
        more = f", or {len(plan.requests) - 1} other type(s)" if plan.requests[1:] else ""
        lines.append(f"  {plan.name}: {wanted_instances(request['ResourceConfig'])}{spot}{more}, at most {limit_s} s")
    try:
        found = launch_bound(plans, prices)
    except ValueError as error:
        lines.append(f"What it can cost is not known: {error}")
    else:
        lines.append(f"All of it can cost {found.usd:.2f} USD at most, by prices of {found.price_day}.")
    return "\n".join(lines)


def record_costs(plans: Sequence[Plan], followed: Sequence[FollowedJob], prices: Prices) -> None:
    """Writes cost.json into the folder of each job that has ended, and says in a line what it cost."""
    for plan, job in zip(plans, followed, strict=True):
        if job.ended and job.description:
            cost = JobCost.of(job.description, str(plan.cfg.get("name", "job")), prices)
            cost.write(plan.folder)
            print(f"{job.name}: {cost.describe()}")

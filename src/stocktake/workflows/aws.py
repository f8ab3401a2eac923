"""scripts/aws.py: an AWS account looked at, set up for jobs and endpoints, and cleared again."""

import getpass
import json
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from omegaconf import DictConfig

from stocktake.cloud.account import NO_ACCOUNT, Account, AccountError
from stocktake.cloud.account_inventory import Found, Inventory
from stocktake.cloud.account_part import Part
from stocktake.cloud.account_parts import NO_BUDGETS, SECRET_VALUE, parts
from stocktake.cloud.account_quotas import Quotas, wanted_quotas
from stocktake.cloud.account_setup import AccountSetup, Step, first_step, refusal
from stocktake.cloud.account_teardown import AccountTeardown
from stocktake.cloud.deployment import Call
from stocktake.cloud.deployment_checks import clients, open_account, show
from stocktake.cloud.preflight import DEFAULT_REGION, find_region, session
from stocktake.cloud.service_calls import CallRefused, ServiceCalls
from stocktake.console import is_agreed
from stocktake.shell import command
from stocktake.workflows.aws_teardown import teardown

SCRIPT = "scripts/aws.py"


def aws(cfg: DictConfig) -> int:
    """Does what conf/aws.yaml describes; returns the exit code.

    Raises:
        AccountError: Something is missing or wrong, or AWS refuses.
    """
    if cfg.dry_run and cfg.action in ("check", "teardown"):
        raise AccountError(
            f"dry_run=true shows requests without an account, and action={cfg.action} is nothing without one: it asks "
            "before it changes anything. Leave dry_run out, or type action=setup"
        )
    actions = {"check": _check, "setup": _setup, "teardown": _teardown, "policy": _policy}
    try:
        return actions[cfg.action](cfg)
    except CallRefused as error:
        raise AccountError(refusal(error)) from error


def _policy(cfg: DictConfig) -> int:
    account = _without_an_account(cfg)
    if account.account == NO_ACCOUNT:
        print(f"The account is not known: {NO_ACCOUNT} stands for it. Type account=<12 digits>", file=sys.stderr)
    _refuse(account.problems())
    print(json.dumps(account.policy(cfg.whom), indent=2))
    return 0


def _setup(cfg: DictConfig) -> int:
    if cfg.dry_run:
        account = _without_an_account(cfg)
        planned = _parts(cfg, account)
        calls = [call for part in planned for call in first_step(part).calls]
        show(calls, [*_problems(account), *(line for call in calls for line in call.problems({}))])
        return 0
    account, made = _opened(cfg, AccountSetup)
    _refuse(_problems(account))
    steps = [made.step(part) for part in _parts(cfg, account)]
    if cfg.wandb_key == "replace":
        steps = [_with_new_value(step) if step.part.kind == "secret" else step for step in steps]
    print(*steps, sep="\n")
    if num_blocked := sum(step.state == "blocked" for step in steps):
        lines = "1 line above begins" if num_blocked == 1 else f"{num_blocked} lines above begin"
        raise AccountError(f"Nothing was done, because {lines} with blocked.")
    to_do = [step for step in steps if step.calls]
    if to_do:
        if not is_agreed(f"Make and change this in account {account.account}?", cfg.yes):
            return 0
        key = _read_key() if any(step.part.kind == "secret" for step in to_do) else None
        for step in to_do:
            made.carry_out(step, key)
            print(f"Done: {step.part.title}")
    else:
        print("All of it is there. Nothing was changed.")
    print("For this shell, and for the next ones in its profile:", *_exports(account), sep="\n  ")
    counts = {state: sum(step.state == state for step in steps) for state in ("make", "change", "stays")}
    print(json.dumps({"account": account.account, "region": account.region, **counts}))
    return 0


def _check(cfg: DictConfig) -> int:
    account, made = _opened(cfg, AccountSetup)
    looked_at = [made.step(part) for part in _parts(cfg, account)]
    statuses = {"stays": "ok", "make": "missing", "change": "differs", "blocked": "wrong"}
    print(*[f"{statuses[step.state]:<8}{step.part.title}{_details(step)}" for step in looked_at], sep="\n")
    lacking = [step.part.title for step in looked_at if step.state != "stays"]
    if lacking:
        print(f"        To make what is missing: {_typed(cfg, action='setup')}")
    few = _compared_quotas(cfg, account, made)
    running = _running(made)
    for found in running or ():
        print(f"{'endless' if found.is_endless else 'runs':<8}{found}{_how_to_end(cfg, found)}")
    endless = [str(found) for found in running or () if found.is_endless]
    print(json.dumps({"account": account.account, "lacking": lacking, "few": few, "endless": endless}))
    return int(bool(lacking or endless))


def _details(step: Step) -> str:
    return f": {'; '.join(step.about)}" if step.state in ("change", "blocked") else ""


def _compared_quotas(cfg: DictConfig, account: Account, calls: ServiceCalls) -> list[str]:
    """Prints what the account may run at a time; returns the names of quotas that are too small."""
    wanted = wanted_quotas(
        list(cfg.training_types), cfg.num_instances, list(cfg.endpoint_types), cfg.num_endpoint_instances
    )
    try:
        found = list(Quotas(calls.client, calls.patience).compared(wanted))
    except CallRefused as error:
        print(f"unknown quotas: {refusal(error)}")
        return []
    print(*[f"{'ok' if quota.is_enough else 'few':<8}{quota.line(account.region)}" for quota in found], sep="\n")
    return [quota.name for quota in found if not quota.is_enough]


def _running(calls: ServiceCalls) -> list[Found] | None:
    try:
        return list(Inventory(calls.client, calls.patience).running())
    except CallRefused as error:
        print(f"unknown what runs: {refusal(error)}")
        return None


def _how_to_end(cfg: DictConfig, found: Found) -> str:
    if found.kind != "endpoint":
        return ""
    where = {key: cfg[key] for key in ("region", "profile") if cfg[key] is not None}
    return f". To delete it: {command('scripts/deploy.py', {'action': 'delete', 'name': found.name} | where)}"


def _teardown(cfg: DictConfig) -> int:
    account, cleared = _opened(cfg, AccountTeardown)
    return teardown(account, cleared, cfg.yes, cfg.poll_s)


def _parts(cfg: DictConfig, account: Account) -> list[Part]:
    has_budget = account.budget_usd is not None and account.partition != NO_BUDGETS
    if account.budget_usd is not None and not has_budget:
        print(
            f"No budget: AWS Budgets is not in {NO_BUDGETS}. Make one in the standard account that pays for this one."
        )
    return parts(account, has_secret=cfg.wandb_key != "none", has_budget=has_budget)


def _with_new_value(step: Step) -> Step:
    if step.state != "stays":
        return step
    request = {"SecretId": step.part.name, "SecretString": SECRET_VALUE}
    return Step(step.part, "change", ["a new value"], [Call("secretsmanager", "PutSecretValue", request)])


def _read_key() -> str:
    """Returns the key of W&B, typed unseen or from standard input.

    Raises:
        AccountError: Nothing was typed.
    """
    if sys.stdin.isatty():
        key = getpass.getpass("Key of W&B (https://wandb.ai/authorize; it is not shown): ").strip()
    else:
        key = sys.stdin.readline().strip()
    if len(key.split()) != 1:
        raise AccountError(
            "No key of W&B came, and nothing was made. Type it when it is asked for, or have it read: wandb_key=ask "
            "yes=true < FILE"
        )
    return key


def _opened(cfg: DictConfig, kind: type) -> tuple[Account, Any]:
    """Returns the account of the credentials, which is said, and what calls its services."""
    found = open_account(cfg.profile, cfg.region)
    identity = found.client("sts").get_caller_identity()
    if cfg.account is not None and str(cfg.account) != identity["Account"]:
        raise AccountError(
            f"account={cfg.account}, but these credentials are of account {identity['Account']}. Type another profile, "
            "or leave account out."
        )
    account = _account(cfg, found, found.region_name, identity["Account"])
    print(f"Account {account.account}, {identity['Arn']}; region {account.region} ({account.partition})")
    return account, kind(cache(clients(found)))


def _without_an_account(cfg: DictConfig) -> Account:
    region = find_region(cfg.profile, cfg.region) or DEFAULT_REGION
    return _account(cfg, session(cfg.profile, region, "profile"), region, str(cfg.account or NO_ACCOUNT))


def _account(cfg: DictConfig, aws: Any, region: str, number: str) -> Account:
    from botocore.exceptions import UnknownRegionError

    try:
        partition = aws.get_partition_for_region(region)
    except UnknownRegionError as error:
        raise AccountError(f"region={region} is none that boto3 knows. Type region=us-east-1, or another") from error
    return Account(
        partition,
        region,
        number,
        name=cfg.name,
        set_bucket=cfg.bucket,
        kms_key=cfg.kms_key,
        has_vpc=cfg.vpc,
        data_buckets=tuple(cfg.data_buckets),
        checkpoint_days=cfg.checkpoint_days,
        budget_usd=cfg.budget_usd,
        budget_email=cfg.budget_email,
    )


def _problems(account: Account) -> list[str]:
    found = account.problems()
    if account.budget_usd is not None and account.partition != NO_BUDGETS and not account.budget_email:
        found.append(
            f"budget_email is not set: it hears when {account.budget_usd:g} USD a month are reached. Type "
            "budget_email=<you@example.com>, or budget_usd=null for no budget"
        )
    return found


def _exports(account: Account) -> list[str]:
    scheduler = f"scheduler_role_arn={account.role_arn(account.scheduler_role)}"
    return [
        f"export AWS_DEFAULT_REGION={account.region}",
        f"export STOCKTAKE_BUCKET={account.bucket}",
        f"export STOCKTAKE_ROLE={account.role_arn(account.job_role)}",
        f"# deploy.py ... {scheduler}",
    ]


def _typed(cfg: DictConfig, **values: str) -> str:
    where = {key: cfg[key] for key in ("region", "profile", "bucket") if cfg[key] is not None}
    mail = {} if cfg.budget_usd is None else {"budget_email": cfg.budget_email or "me@example.com"}
    return command(SCRIPT, values | where | mail)


def _refuse(found: Sequence[str]) -> None:
    if found:
        raise AccountError("\n  ".join([f"Nothing was done, because of {len(found)}:", *found]))

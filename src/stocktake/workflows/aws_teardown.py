"""scripts/aws.py action=teardown: what is paid goes first, and what refuses to go is named."""

import json
from collections.abc import Iterable

from stocktake.cloud.account import Account
from stocktake.cloud.account_inventory import Found, Inventory
from stocktake.cloud.account_part import Part
from stocktake.cloud.account_parts import NO_BUDGETS, parts
from stocktake.cloud.account_setup import refusal
from stocktake.cloud.account_teardown import AccountTeardown
from stocktake.cloud.endpoints import EndpointFailed
from stocktake.cloud.retries import Unavailable
from stocktake.cloud.service_calls import CallRefused
from stocktake.console import is_agreed


def teardown(account: Account, cleared: AccountTeardown, yes: bool, poll_s: float) -> int:
    """Lists all of this project in an account, asks, ends and deletes it, and lists again; returns the exit code.

    Args:
        yes: Nobody is asked.
        poll_s: Between two looks at what takes its time to end.
    """
    inventory = Inventory(cleared.client, cleared.patience)
    there, foreign = _there(account, cleared)
    found = _all_found(inventory, there)
    print(
        *[f"  {each}" for each in found],
        *[f"  {part.title} {cleared.about(part)}".rstrip() for part in there],
        sep="\n",
    )
    for part in foreign:
        print(f"Stays: {part.title}, which has no tag project=stocktake.")
    if not found and not there:
        print(f"Nothing of this project is in account {account.account}, region {account.region}.")
        print(json.dumps({"account": account.account, "left": []}))
        return 0
    question = f"End and delete all of this in account {account.account}, region {account.region}?"
    if not is_agreed(question, yes):
        return 0
    for each in found:
        try:
            inventory.end(each, print, poll_s)
        except (CallRefused, EndpointFailed, Unavailable) as error:
            print(f"Refuses to go: {each.kind} {each.name}: {refusal(error)}")
    for part in there:
        try:
            cleared.delete(part)
            print(f"Deleted: {part.title}")
        except (CallRefused, Unavailable) as error:
            print(f"Refuses to go: {part.title}: {refusal(error)}")
    there, _ = _there(account, cleared)
    left = [*map(str, _all_found(inventory, there)), *(part.title for part in there)]
    print("Listed again:", *(left or ["nothing of this project is left, and nothing of it is paid any more."]))
    print("Logs in CloudWatch below /aws/sagemaker stay: 0.03 USD a GB and month.")
    print(json.dumps({"account": account.account, "left": left}))
    return int(bool(left))


def _all_found(inventory: Inventory, there: Iterable[Part]) -> list[Found]:
    known = [part.name for part in there]
    return [*inventory.running(), *inventory.kept(), *inventory.elsewhere(known)]


def _there(account: Account, cleared: AccountTeardown) -> tuple[list[Part], list[Part]]:
    """Returns the parts that are there: this project's, and others' of the same names. What others need goes last."""
    every = parts(account, has_secret=True, has_budget=account.partition != NO_BUDGETS)
    there = [part for part in reversed(every) if cleared.is_there(part)]
    own = [part for part in there if cleared.is_own(part)]
    return own, [part for part in there if part not in own]

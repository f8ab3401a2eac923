"""What comes of a deployment: its requests are sent, AWS comes to rest, and one of two models answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stocktake.cloud.deployment import POLICY_BEFORE, Call
from stocktake.cloud.endpoints import Endpoints

CONFIG = "EndpointConfigName"


@dataclass(frozen=True)
class Outcome:
    """Where an endpoint came to rest.

    Attributes:
        status: AWS's word for it.
        is_rolled_back: The model of before answers.
        reason: AWS's, why; empty where all went well.
    """

    status: str
    is_rolled_back: bool = False
    reason: str = ""


def send_all(endpoints: Endpoints, calls: Sequence[Call]) -> None:
    """Sends one stage of a deployment.

    Raises:
        EndpointFailed: AWS refuses one of its calls.
    """
    policy_arn = POLICY_BEFORE
    for call in calls:
        if call.request.get("AlarmActions") == [POLICY_BEFORE]:
            call = replace(call, request=call.request | {"AlarmActions": [policy_arn]})
        policy_arn = endpoints.send(call).get("PolicyARN", policy_arn)


def settled(
    endpoints: Endpoints,
    name: str,
    calls: Sequence[Call],
    say: Callable[[str], None],
    poll_s: float,
    before: str | None = None,
) -> Outcome:
    """Waits until an endpoint and its inference component, if these calls touch one, no longer move.

    Args:
        before: The config, or the model of the component, that ran before these calls: what a rollback comes back to.
            Where it is not known, whatever these calls did not make is taken for it.

    Raises:
        EndpointFailed: One of them failed, or is gone.
    """
    described = endpoints.wait(name, say, poll_s)
    status, runs = described["EndpointStatus"], described["EndpointConfigName"]
    wanted = next((call.request[CONFIG] for call in calls if call.operation == "CreateEndpointConfig"), None)
    component = next((call for call in calls if call.operation.endswith("InferenceComponent")), None)
    if component is not None:
        described = endpoints.wait_for_component(name, say, poll_s)
        runs, wanted = (each["Specification"]["ModelName"] for each in (described, component.request))
    if wanted in (None, runs) or before not in (None, runs):  # or somebody else's update came after these calls
        return Outcome(status)
    return Outcome(status, True, described.get("FailureReason", "AWS rolled the update back"))

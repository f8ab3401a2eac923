"""What came of a deployment, by what AWS describes: ours, the model of before, or somebody else's."""

from datetime import UTC, datetime
from typing import Any

import pytest

from stocktake.cloud.deployment import Call
from stocktake.cloud.deployment_outcome import Outcome, settled
from stocktake.cloud.endpoint_upkeep import planned_ends
from stocktake.cloud.endpoints import Endpoints, ListedEndpoint


class Described(Endpoints):
    """An account in which every endpoint is as was said."""

    def __init__(self, **described: Any):
        super().__init__(lambda service: None)
        self.described = {"EndpointStatus": "InService", **described}

    def describe(self, name):
        return self.described

    def answering(self, described):
        return described["variant"]


OURS = [Call("sagemaker", "CreateEndpointConfig", {"EndpointConfigName": "ours"})]


@pytest.mark.parametrize(
    ("runs", "outcome"),
    [
        ("ours", Outcome("InService")),
        ("before", Outcome("InService", True, "alarm")),
        ("another's", Outcome("InService")),  # who came after us took it over; nothing was rolled back
    ],
)
def test_only_who_comes_back_to_what_ran_before_was_rolled_back(runs, outcome):
    endpoints = Described(EndpointConfigName=runs, FailureReason="alarm")
    assert settled(endpoints, "bins", OURS, lambda line: None, 0, "before") == outcome


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        ({"variant": {"ModelName": "m", "ServerlessConfig": {}}}, "serverless"),
        ({"variant": {"ModelName": "m"}}, "instances"),
        ({"variant": {"ModelName": "m"}, "AsyncInferenceConfig": {}}, "async"),
        ({"variant": {}}, "component"),
    ],
)
def test_how_an_endpoint_holds_its_model_is_seen(described, kind):
    endpoints = Described(**described)
    assert endpoints.kind(endpoints.described) == kind


def test_no_two_endpoints_have_a_schedule_of_one_name():
    names = ["bins", "bins-end", "bins-component", "bins-end-component"]
    schedules = [schedule for name in names for schedule in planned_ends(name)]
    assert len(set(schedules)) == len(schedules)


@pytest.mark.parametrize(
    ("tag", "ends_at"),
    [
        ("2026-12-01T06:00:00+00:00", datetime(2026, 12, 1, 6, tzinfo=UTC)),
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)),  # by hand
        ("soon", None),
        (None, None),
    ],
)
def test_a_planned_end_is_read_from_whatever_a_tag_holds(tag, ends_at):
    assert ListedEndpoint.end_of(tag) == ends_at

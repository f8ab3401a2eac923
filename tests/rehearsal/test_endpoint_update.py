"""Updates of an endpoint that is asked 20 times a second all along."""

import pathlib
import time

import pytest
from botocore.exceptions import ClientError
from hosted import Load, account, export_failing
from served import export, gray_image

from stocktake.cloud import endpoint_requests as requests
from stocktake.cloud import endpoint_upkeep as upkeep


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    with account(tmp_path_factory.mktemp("account"), startup_timeout_s=12) as there:
        there.create("demo")
        cloudwatch = there.server.client("cloudwatch")
        for alarm in upkeep.alarms("demo"):
            cloudwatch.put_metric_alarm(**alarm)
        there.alarms = [alarm["AlarmName"] for alarm in upkeep.alarms("demo")]
        yield there


def update(there, name: str, folder: pathlib.Path, **values) -> None:
    """Makes a model of a folder and a configuration of it, and begins to update `demo` to it."""
    there.create_model(name, there.put_model(name, folder))
    there.create_config(name, name)
    deployment = requests.blue_green(alarms=there.alarms, **{"wait_s": 100, "termination_wait_s": 10} | values)
    there.sagemaker.update_endpoint(**requests.update_endpoint("demo", name, deployment))


def states(there) -> list[str]:
    """Returns the states that `demo` goes through until it is in service."""
    seen = []
    while True:
        status = there.sagemaker.describe_endpoint(EndpointName="demo")["EndpointStatus"]
        if status not in seen:
            seen.append(status)
        if status == "InService":
            return seen
        time.sleep(0.02)


def version(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Exports the model under another version."""
    export(folder)
    facts = (folder / "model.json").read_text()
    (folder / "model.json").write_text(facts.replace("brightness-1", name))
    return folder


def test_an_update_fails_no_request_and_its_canary_takes_its_share_first(there, tmp_path):
    with Load(there, "demo") as load:
        update(there, "second", version(tmp_path, "second"), shift="canary", step_percent=10, wait_s=300)
        pending = there.sagemaker.describe_endpoint(EndpointName="demo")["PendingDeploymentSummary"]
        assert pending["EndpointConfigName"] == "second"
        with pytest.raises(ClientError, match='Cannot update in-progress endpoint "arn:'):
            there.sagemaker.update_endpoint(**requests.update_endpoint("demo", "demo"))
        assert states(there) == ["Updating", "InService"]
        time.sleep(0.2)
    assert load.failures == []
    assert load.num_answers == load.num_sent > 100
    assert load.versions[0] == "brightness-1" and load.versions[-1] == "second"
    first = load.versions.index("second")
    in_the_wait = load.versions[first : first + 30]  # of the 60 that come within it
    assert in_the_wait.count("second") in (2, 3, 4)
    seen = there.sagemaker.describe_endpoint(EndpointName="demo")
    assert seen["EndpointConfigName"] == "second" and "FailureReason" not in seen


def runs(there) -> str:
    """Returns the configuration that the endpoint runs: of whichever tests of this module came before."""
    return there.sagemaker.describe_endpoint(EndpointName="demo")["EndpointConfigName"]


def test_a_model_that_never_answers_ping_rolls_back(there, tmp_path):
    before = runs(there)
    with Load(there, "demo") as load:
        update(there, "mute", export_failing(tmp_path, answers_ping=False))
        assert states(there)[0] == "Updating"
    assert load.failures == []
    assert load.num_answers == load.num_sent > 100  # of the 240 that come while it is waited for
    assert len(set(load.versions)) == 1, "the old model answers all along"
    seen = there.sagemaker.describe_endpoint(EndpointName="demo")
    assert seen["EndpointConfigName"] == before
    assert "did not pass the ping health check" in seen["FailureReason"]


def test_answers_of_5xx_trip_the_alarm_and_roll_back(there, tmp_path):
    before = runs(there)
    with Load(there, "demo") as load:
        failing = export_failing(tmp_path, answers_ping=True)
        update(there, "failing", failing, shift="canary", step_percent=10, wait_s=3000, max_time_s=7200)
        assert states(there) == ["Updating", "RollingBack", "InService"]
    assert {error.response["OriginalStatusCode"] for error in load.failures} == {500}
    # Of the wait, 30 s with two failures a second, hardly any passes: 5 a minute are allowed, and each stands for 100.
    assert 0 < len(load.failures) < 20
    assert load.num_answers + len(load.failures) == load.num_sent
    assert len(set(load.versions)) == 1, "the old model answers all along"
    for _ in range(10):  # of which one would be the canary's
        there.runtime.invoke_endpoint(EndpointName="demo", Body=gray_image())
    seen = there.sagemaker.describe_endpoint(EndpointName="demo")
    assert seen["EndpointConfigName"] == before
    assert "demo-5xx" in seen["FailureReason"]


def test_an_unknown_alarm_is_refused(there):
    deployment = requests.blue_green(alarms=["none"])
    with pytest.raises(ClientError, match="no alarm none"):
        there.sagemaker.update_endpoint(**requests.update_endpoint("demo", "demo", deployment))

"""A shadow variant: it is given copies, nobody waits for its answers, and its errors are nobody's but its own."""

import json
import time

import pytest
from hosted import account, export_failing, refusal
from served import gray_image

from stocktake.cloud import endpoint_requests as requests


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """An account with the endpoint `beside`, which errs on every image in its shadow."""
    folder = tmp_path_factory.mktemp("failing")
    with account(tmp_path_factory.mktemp("account")) as there:
        there.create_model("good")
        there.create_model("failing", there.put_model("failing", export_failing(folder, answers_ping=True)))
        variant = requests.instance_variant("good", "ml.m5.large")
        shadow = requests.shadow_variant("failing", "ml.m5.large", 1, variant, 100)
        there.create("beside", "good", variant, shadow=shadow, capture_url="s3://captured")
        yield there


def test_its_errors_reach_nobody_who_asks_and_are_counted_as_its_own(there):
    for _ in range(3):
        answer = there.runtime.invoke_endpoint(EndpointName="beside", Body=gray_image(), ContentType="image/png")
        assert answer["InvokedProductionVariant"] == "all"
        assert json.loads(answer["Body"].read())["count"] == 3
    counts, deadline = there.hosting.invocations.counts, time.monotonic() + 30
    while sum(one.variant == "shadow" for one in counts._invocations) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    errors = [(one.variant, one.is_server_error) for one in counts._invocations]
    assert sorted(errors) == [("all", False)] * 3 + [("shadow", True)] * 3


def test_it_is_described_beside_the_other_and_has_its_own_log(there):
    seen = there.sagemaker.describe_endpoint(EndpointName="beside")
    assert [variant["VariantName"] for variant in seen["ProductionVariants"]] == ["all"]
    assert [variant["VariantName"] for variant in seen["ShadowProductionVariants"]] == ["shadow"]
    streams = there.server.client("logs").describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/beside")
    assert {each["logStreamName"].partition("/")[0] for each in streams["logStreams"]} == {"all", "shadow"}


def test_what_aws_refuses_of_a_shadow_is_refused_over_http(there):
    variant = requests.instance_variant("good", "ml.m5.large")
    shadow = requests.shadow_variant("good", "ml.m5.large", 1, variant, 100)
    config = requests.endpoint_config("none", variant, shadow)
    two = config | {"ShadowProductionVariants": [shadow, shadow]}
    assert "one shadow variant" in refusal(there.sagemaker.create_endpoint_config, **two)[1]
    unknown = config | {"ShadowProductionVariants": [shadow | {"ModelName": "unknown"}]}
    assert "unknown" in refusal(there.sagemaker.create_endpoint_config, **unknown)[1]

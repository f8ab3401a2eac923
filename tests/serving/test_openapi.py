"""The server does what its OpenAPI says: Schemathesis asks everything that it admits, over a real socket."""

import base64

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, strategies
from served import picture

PICTURES = strategies.sampled_from([picture(value, kind) for value in (25, 125, 225) for kind in ("JPEG", "PNG")])
# What a picture is cannot be said in a schema.
for media_type in ("image/jpeg", "image/png", "image/webp", "image/gif", "application/x-image"):
    schemathesis.openapi.media_type(media_type, PICTURES)
schemathesis.openapi.format("byte", PICTURES.map(lambda content: base64.b64encode(content).decode()))


@pytest.fixture(scope="session")
def described(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("described")
SETTINGS = {
    "deadline": None,  # the machine may be busy
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@schema.parametrize()
@hypothesis.settings(max_examples=15, **SETTINGS)
def test_every_answer_is_as_described(case):
    case.call_and_validate()


@pytest.mark.slow
@schema.parametrize()
@hypothesis.settings(max_examples=500, **SETTINGS)
def test_every_answer_is_as_described_often(case):
    case.call_and_validate()

"""A small exported model with its baseline, and quiet answers of it."""

import pytest
from monitored import export_with_baseline, logged


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return export_with_baseline(tmp_path_factory.mktemp("monitored"))


@pytest.fixture(scope="session")
def answers(model):
    return logged(model, range(7500, 8000))

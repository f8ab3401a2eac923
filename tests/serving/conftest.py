"""What the server's tests share: a small exported model, and a server over it."""

import json
import signal

import pytest
from served import export, serving


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return export(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def predictor(model_folder):
    from stocktake.serving.predictor import Predictor

    return Predictor.open(str(model_folder), num_threads=1)


@pytest.fixture(scope="session")
def server(model_folder, tmp_path_factory):
    """A server that this worker's tests share; in the end it goes down by Ctrl-C, and cleanly."""
    with serving(model_folder, tmp_path_factory.mktemp("server") / "log", "log=json") as served:
        yield served
        served.client.close()
        code, printed = served.stop(signal.SIGINT)
        assert code == 0 and json.loads(printed[-1])["requests"] > 0
        assert "Traceback" not in served.log.read_text()

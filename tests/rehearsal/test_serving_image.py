"""What an instance of an endpoint starts in an image like the Dockerfile's: files, packages and variables."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy
import pytest
from hosted import account
from served import REPOSITORY, by_hand, gray_image

from stocktake.rehearsal.endpoint_instance import EndpointInstance
from stocktake.rehearsal.serving_image import clean_image

DOCKERFILE = """
ARG BASE=registry/pytorch:2
FROM ${BASE} AS training
ENTRYPOINT ["python3", "-m", "another"]

# A comment.
FROM python:3.13-slim AS serving
WORKDIR /opt/somewhere
COPY small.lock ./
RUN python3 -m pip install --requirement small.lock
COPY conf ./conf
COPY scripts/tell.py ./scripts/
ENV PYTHONPATH=/opt/somewhere/src \\
    GREETING=hello
USER nobody
ENTRYPOINT ["python3", "scripts/tell.py", "host=0.0.0.0"]
"""
TELLS = """
import json, os, sys
there = sorted(os.path.join(folder, name) for folder, _, names in os.walk(".") for name in names)
print(json.dumps([sys.prefix, sys.argv, dict(os.environ), there]))
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """One whose lock names no package, so that nothing is asked of an index."""
    folder = tmp_path_factory.mktemp("repository")
    for name, text in {"Dockerfile": DOCKERFILE, "small.lock": "# nothing\n", "not-copied.py": ""}.items():
        (folder / name).write_text(text)
    for name, text in {"conf/serve.yaml": "", "conf/__pycache__/serve.pyc": "", "scripts/tell.py": TELLS}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_an_instance_has_what_the_dockerfiles_stage_has_and_nothing_of_this_user(repository, tmp_path, monkeypatch):
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of this user")
    image = clean_image(tmp_path / "image", repository, lambda line: None, tmp_path / "cache")
    instance = EndpointInstance("i-1", tmp_path / "ml", tmp_path / "log", image, {"MODEL": "asked for"})
    instance.start()
    while instance.runs:
        time.sleep(0.01)
    prefix, words, seen, there = json.loads(instance.log.read_text())
    instance.wait_until_ended()
    assert Path(prefix).parent == tmp_path / "cache"
    assert words == [
        *("scripts/tell.py", "host=0.0.0.0", "serve"),
        *(f"model={tmp_path / 'ml' / 'model'}", "port=0", "host=127.0.0.1"),
    ]
    assert [file for file in there if "__pycache__" not in file] == [
        "./conf/serve.yaml",
        "./scripts/tell.py",
        "./small.lock",
    ]
    assert seen.pop("PATH").startswith(f"{prefix}/bin:")
    assert {key: value for key, value in seen.items() if not key.startswith("LC_")} == {
        "PYTHONPATH": f"{tmp_path}/image/src",
        "GREETING": "hello",
        "LANG": "C.UTF-8",
        "AWS_REGION": "us-east-1",
        "MODEL": "asked for",
    }


@pytest.mark.slow
def test_the_dockerfiles_stage_serves_in_a_bare_python(tmp_path):
    """The first time it installs requirements.serve.lock, from a package index."""
    image = clean_image(tmp_path / "image")
    python = shutil.which(image.entrypoint[0], path=image.environment["PATH"])
    assert python and not python.startswith(str(REPOSITORY))
    for name in ("torch", "pytest"):
        told = subprocess.run([python, "-I", "-c", f"import {name}"], capture_output=True, text=True, check=False)
        assert f"No module named '{name}'" in told.stderr
    with account(tmp_path, image=image) as there:
        there.create("bins")
        answer = there.runtime.invoke_endpoint(EndpointName="bins", Body=gray_image(130))
        found = json.loads(answer["Body"].read())["probabilities"]
    numpy.testing.assert_allclose(list(found.values()), by_hand(130), atol=1e-6)

"""A Python like the image's: what is in it, what it sees of this user, and that it is made once."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from stocktake.rehearsal import clean_python as module
from stocktake.rehearsal.clean_python import FROM_THE_IMAGE, NoCleanPython, clean_python
from stocktake.rehearsal.instance import Instance

REPOSITORY = Path(__file__).parents[2]
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cu133-amzn2023-sagemaker"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(cache, tmp_path, monkeypatch):
    """Makes one out of nothing: no network is needed for a lock that names no package."""
    monkeypatch.setattr(module, "_torch", lambda image_uri: [])

    def make(lock: str = "# of a container\n", said=None) -> Path:
        path = tmp_path / "requirements.container.lock"
        path.write_text(lock)
        return clean_python(path, IMAGE, (said if said is not None else []).append, cache, ())

    return make


def test_it_has_not_this_package_and_is_made_once(make, monkeypatch):
    said = []
    python = make(said=said)
    assert "once" in said[0] and "rm -r" in said[1]
    monkeypatch.delenv("PYTHONPATH", raising=False)  # as in an instance
    told = subprocess.run([python, "-c", "import stocktake"], cwd="/", capture_output=True, text=True, check=False)
    assert "No module named 'stocktake'" in told.stderr
    monkeypatch.setattr(module, "_run", lambda command: pytest.fail("nothing may be installed again"))
    said.clear()
    assert make(said=said) == python
    assert said == []


def test_another_lock_makes_another(make):
    assert make("# one\n") != make("# two\n")


def test_one_that_is_half_made_is_made_anew(make):
    python = make()
    (python.parents[1] / "whole").unlink()
    (python.parents[1] / "half").touch()
    make()
    assert not (python.parents[1] / "half").exists()


def test_what_cannot_be_made_says_why_and_stays_unmade(make, cache):
    lock = "no-such-package-anywhere==1 --hash=sha256:" + 64 * "0" + "\n"
    with pytest.raises(NoCleanPython, match="leave clean=true out"):
        make(f"--no-index\n{lock}")
    with pytest.raises(NoCleanPython, match="leave clean=true out"):
        make(f"--no-index\n{lock}")


def test_a_missing_lock_is_named(tmp_path):
    with pytest.raises(NoCleanPython, match="repository's root"):
        clean_python(tmp_path / "requirements.container.lock", IMAGE)


@pytest.mark.parametrize(
    ("image", "wanted"),
    [(IMAGE, ["torch<2.15"]), ("1.dkr.ecr.eu-west-1.amazonaws.com/pytorch-training:2.8.0-gpu", ["torch<2.9"])],
)
def test_torch_is_the_images(image, wanted):
    assert module._torch(image) == wanted


def test_what_the_image_brings_is_what_the_lock_leaves_out():
    makefile = (REPOSITORY / "Makefile").read_text()
    (named,) = re.findall(r"^FROM_THE_IMAGE := (.*)$", makefile, flags=re.MULTILINE)
    assert ["torch", *FROM_THE_IMAGE] == named.split()


def test_an_instance_in_it_sees_nothing_of_this_user(make, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the way to S3")
    instance = Instance("algo-1", "127.0.0.1", tmp_path / "ml", tmp_path / "log")
    tells = "import json, os, sys; print(json.dumps([sys.prefix, dict(os.environ)]))"
    request = {"AlgorithmSpecification": {"ContainerEntrypoint": ["python3", "-c", tells]}}
    python = make()
    instance.start(request, {"AWS_REGION": "us-east-1"}, python)
    while instance.exit_code is None:
        time.sleep(0.01)
    prefix, seen = json.loads(instance.log.read_text())
    instance.kill()
    assert Path(prefix) == python.parents[1]
    assert seen.pop("PATH").split(os.pathsep)[0] == str(python.parent)
    assert seen.pop("HOME") == str(tmp_path / "ml")
    assert {key for key in seen if not key.startswith(("AWS_", "LC_"))} == {
        *("LANG", "PYTHONUNBUFFERED", "SAGEMAKER_BASE_DIR", "TMPDIR"),
    }
    assert seen["AWS_SECRET_ACCESS_KEY"] == "the way to S3"

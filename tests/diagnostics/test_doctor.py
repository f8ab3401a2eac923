"""What the doctor says of machines that lack something: packages, credentials, room."""

import http.server
import importlib.metadata
import itertools
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
from collections import namedtuple

import pytest
from account import Account
from imported import help_and_imports

from stocktake.diagnostics import doctor as ward
from stocktake.diagnostics.credentials import aws_source, wandb_key_source
from stocktake.hardware import suitable_precision

REPOSITORY = pathlib.Path(__file__).parents[2]

SCRIPT = REPOSITORY / "scripts" / "doctor.py"
SECRET = "a-secret-that-nobody-may-see"


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """A home without credentials, and a socket that leads nowhere: without network=true nothing may be asked."""
    for name in ("WANDB_API_KEY", "NETRC", "STOCKTAKE_BUCKET", "STOCKTAKE_ROLE", *ward.TEST_DATA):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in ward.os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a request was about to leave this machine")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def repository(tmp_path):
    """A project of two packages that fit."""
    numpy, rich = (importlib.metadata.version(name) for name in ("numpy", "rich"))

    def write(base="numpy>=1", train="rich>=1", test="pytest>=1", lock=()):
        (tmp_path / "pyproject.toml").write_text(
            f'[project]\nrequires-python = ">=3.11"\ndependencies = ["{base}"]\n'
            f'[project.optional-dependencies]\ntrain = ["{train}"]\ntest = ["{test}"]\n'
        )
        lines = lock or (f"numpy=={numpy}", f"rich=={rich}")
        (tmp_path / "requirements.lock").write_text(
            "".join(f"{line} \\\n    --hash=sha256:0a \\\n    --hash=sha256:0b\n" for line in lines)
        )
        return tmp_path

    return write


def write_aws(folder, name, text):
    (folder / ".aws").mkdir(exist_ok=True)
    (folder / ".aws" / name).write_text(text)


def test_a_fit_machine_is_told_so_and_what_is_optional(repository, no_network, capsys):
    assert ward.doctor(repository()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"ok       package: numpy {importlib.metadata.version('numpy')}" in lines
    assert "ok       requirements.lock: all 2 packages as locked" in lines
    assert f"ok       trainer.precision=auto: will be {suitable_precision('auto')}" in lines
    assert lines[lines.index("         type: wandb login") - 1].startswith("missing  W&B key: not found")
    # Every line that lacks something is followed by what to type, on one line however narrow the terminal.
    after = [following for line, following in itertools.pairwise(lines) if line.startswith("missing")]
    assert after
    assert all(line.startswith("         type: ") for line in after)
    assert (
        lines[-1].startswith("Training runs here. What is missing is for something else: ") and "W&B key" in lines[-1]
    )


@pytest.mark.parametrize(
    ("lacking", "shown"),
    [
        ({"base": "numpy>=99"}, "(wanted >=99)"),
        ({"train": "no-such-package-here>=1"}, "no-such-package-here not installed (wanted >=1)"),
    ],
)
def test_what_training_needs_ends_with_code_1(repository, capsys, lacking, shown):
    assert ward.doctor(repository(**lacking)) == 1
    out = capsys.readouterr().out
    assert shown in out
    assert "Training will not run here without: package." in out


def test_what_only_tests_need_does_not(repository, capsys):
    assert ward.doctor(repository(test="no-such-package-here>=1")) == 0
    assert "missing  packages for test: no-such-package-here not installed" in capsys.readouterr().out


def test_the_packages_that_differ_from_the_lock_are_named(repository):
    numpy = importlib.metadata.version("numpy")
    lines = (f"numpy=={numpy}", "rich==0.0.1", "absent-package==1.0 ; python_version >= '3'")
    lines += ("elsewhere==1.0 ; sys_platform == 'another'", f"numpy=={numpy} ; python_version < '3'")
    finding = ward.lock(repository(lock=lines) / "requirements.lock")
    rich = importlib.metadata.version("rich")
    assert finding.detail == (
        f"2 of 3 packages differ: rich {rich} (wanted ==0.0.1), absent-package not installed (wanted ==1.0)"
    )
    assert "make setup" in finding.hint
    assert not finding.stops_training


def test_the_projects_own_lock_can_be_read():
    wanted = ward.packages.locked(REPOSITORY / "requirements.lock")
    assert {"torch", "hydra-core", "numpy"} <= {requirement.name for requirement in wanted}
    assert all(str(requirement.specifier).startswith("==") for requirement in wanted)


def test_a_python_outside_the_range_is_told():
    assert ward.python_version(">=3.11").hint is None
    assert "make setup PYTHON=" in ward.python_version("<3.11").hint


def test_a_full_disk_is_told(monkeypatch, tmp_path):
    assert "GiB free" in ward.disk(tmp_path).detail
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2**30))
    assert ward.disk(tmp_path).detail.startswith("1 GiB free")
    assert "RUN_DIR=" in ward.disk(tmp_path).hint


def test_memory_is_no_more_than_the_kernel_says():
    (memory, *_) = ward.hardware()
    lines = pathlib.Path("/proc/meminfo")
    if not lines.exists():
        pytest.skip("/proc/meminfo is Linux's")
    total_gib = int(lines.read_text().split()[1]) / 2**20
    assert 0 < float(memory.detail.removesuffix(" GiB")) <= total_gib + 0.1


def test_aws_credentials_are_found_by_their_method_and_never_shown(monkeypatch, no_network, repository, tmp_path):
    assert ward.aws(network=False).hint.startswith("aws configure")

    write_aws(tmp_path, "credentials", f"[default]\naws_access_key_id = AKIA\naws_secret_access_key = {SECRET}\n")
    assert aws_source() == "access keys in profile default"

    role = "[profile deputy]\nrole_arn = arn:aws:iam::123456789012:role/r\ncredential_source = Ec2InstanceMetadata\n"
    write_aws(tmp_path, "config", role + "[profile single]\nsso_start_url = https://a\nsso_account_id = 1\n")
    monkeypatch.setenv("AWS_PROFILE", "deputy")
    assert aws_source() == "a role to assume in profile deputy"
    monkeypatch.setenv("AWS_PROFILE", "single")
    assert aws_source() == "single sign-on in profile single"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in ward.aws(network=False).detail
    assert "AWS_PROFILE" in ward.aws(network=False).hint

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert aws_source() == "access keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    assert not any(SECRET in f"{finding}" for finding in ward.examine(repository()))


def test_a_containers_role_is_not_asked(monkeypatch, no_network):
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials")
    assert aws_source() == "the container's role in AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"


def test_a_system_that_it_does_not_run_on_is_told():
    assert ward.platform("linux").hint is None
    assert ward.platform("darwin").hint is None
    windows = ward.platform("win32")
    assert windows.stops_training
    assert windows.hint.startswith("wsl --install")


class Cuda:
    """torch with a GPU of another age than its own."""

    __version__ = "2.15.0"

    def __init__(self, available=True, capability=(7, 0)):
        self.cuda, self.version = self, self
        self.available, self.capability = available, capability

    def __str__(self):
        return "13.2"

    def is_available(self):
        return self.available

    def device_count(self):
        return 1

    def get_arch_list(self):
        return ["sm_75", "sm_80", "sm_120", "compute_120"]

    def get_device_capability(self, _):
        return self.capability

    def get_device_name(self, _):
        return "Tesla V100"


def test_a_gpu_that_this_torch_cannot_use_is_told(tmp_path):
    (old,) = ward.unusable_gpus(Cuda(), tmp_path)
    assert old.detail == "Tesla V100 is of compute capability 7.0; torch 2.15.0 begins at 7.5"
    assert old.stops_training
    assert list(ward.unusable_gpus(Cuda(capability=(7, 5)), tmp_path)) == []
    assert list(ward.unusable_gpus(Cuda(available=False), tmp_path)) == []
    (tmp_path / "nvidiactl").touch()
    (tmp_path / "nvidia0").touch()
    (hidden,) = ward.unusable_gpus(Cuda(available=False), tmp_path)
    assert hidden.detail == "is here, but torch 2.15.0 cannot use it: its driver must know CUDA 13.2"
    assert hidden.hint.startswith("nvidia-smi")


def test_what_sagemaker_wants_is_looked_for_without_a_request(monkeypatch, no_network):
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("STOCKTAKE_BUCKET", "bins")
    region, bucket, role = ward.sagemaker(network=False)
    assert "AWS_REGION=eu-west-1 is set, which boto3 does not read" in region.detail
    assert region.hint == "export AWS_DEFAULT_REGION=<region>"
    assert (bucket.detail, bucket.hint) == ("bins (not tried: network=true)", None)
    assert role.hint.startswith("export STOCKTAKE_ROLE=arn:aws:iam::")
    assert not any(finding.stops_training for finding in (region, bucket, role))


def test_with_the_network_bucket_role_and_quota_are_looked_at(monkeypatch):
    with Account() as account:
        for name, value in account.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        for name, value in {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": SECRET}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("STOCKTAKE_BUCKET", "bins")
        monkeypatch.setenv("STOCKTAKE_ROLE", "arn:aws:iam::123456789012:role/Stocktake")
        account.quotas = {"ml.g5.xlarge for training job usage": 0.0, "other": 9.0}
        region, bucket, role, on_demand, spot = ward.sagemaker(network=True)
    assert region.detail == "eu-west-1"
    assert "compute.bucket=bins: S3 does not answer" in bucket.detail
    assert (role.detail, role.hint) == ("arn:aws:iam::123456789012:role/Stocktake", None)
    assert on_demand.detail == "ml.g5.xlarge for training job usage: 0"
    assert "servicequotas" in on_demand.hint
    assert spot.detail == "ml.g5.xlarge for spot training job usage: not reported"


@pytest.fixture
def token_service(monkeypatch):
    """AWS's STS as far as GetCallerIdentity goes; `refuse` makes it say no."""

    class Handler(http.server.BaseHTTPRequestHandler):
        refuse = False

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            arn = "arn:aws:iam::123456789012:user/someone"
            body = (
                "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>No.</Message></Error></ErrorResponse>"
                if Handler.refuse
                else "<GetCallerIdentityResponse><GetCallerIdentityResult>"
                f"<Arn>{arn}</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"
            )
            self.send_response(403 if Handler.refuse else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        yield Handler
        server.shutdown()


def test_with_the_network_aws_says_who_one_is(token_service):
    finding = ward.aws(network=True)
    assert finding.detail.endswith("arn:aws:iam::123456789012:user/someone")
    assert finding.hint is None
    token_service.refuse = True
    refused = ward.aws(network=True)
    assert "InvalidClientTokenId" in refused.detail
    assert refused.hint == "aws configure"


def test_the_wandb_key_is_found_where_wandb_looks(monkeypatch, tmp_path):
    assert wandb_key_source() is None
    (tmp_path / ".netrc").write_text(f"machine elsewhere.example login a password {SECRET}\n")
    assert wandb_key_source() is None
    (tmp_path / "mine").write_text(f"machine api.wandb.ai login user password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "mine"))
    assert wandb_key_source() == str(tmp_path / "mine")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    assert wandb_key_source() == "WANDB_API_KEY"


def test_places_are_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("ABID_ROOT", str(tmp_path))
    monkeypatch.setenv("WEIGHTS", str(tmp_path / "nowhere.safetensors"))
    found = {finding.subject: finding for finding in ward.test_data()}
    assert found["ABID_ROOT"].hint is None
    assert "does not exist" in found["WEIGHTS"].detail
    assert "not set" in found["ABID_ORIGINAL_ROOT"].detail


def test_chromium_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install" in ward.chromium().hint
    (tmp_path / "chromium").touch(mode=0o755)
    assert ward.chromium().detail == str(tmp_path / "chromium")


def test_the_command_runs_from_anywhere(run_script, capsys):
    assert run_script("doctor.py") == 0
    assert "requirements.lock: " in capsys.readouterr().out


def test_another_python_is_told_what_to_type(tmp_path):
    done = subprocess.run([sys.executable, "-I", "-S", str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Type: make setup" in done.stderr


def test_help_waits_for_no_torch(tmp_path):
    shown, imported = help_and_imports(SCRIPT, tmp_path)
    assert "python scripts/doctor.py network=true" in shown
    assert "hydra.main" in imported
    assert not imported & {"torch", "boto3", "pytorch_lightning"}

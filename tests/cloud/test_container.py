"""The container's first process, in folders like SageMaker's and with signals like SageMaker's.

Most tests put a stand-in for torchrun on the path of the job's code: it takes the same options, keeps the same
logs and starts in no time. The slow tests run the real one, on two hosts.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from container_host import COMPLETES, WORDS, failure, make_host

from stocktake.cloud import container, container_output
from stocktake.cloud.container_supervisor import WAITS
from stocktake.run_folder import INTERRUPTED_NAME

pytestmark = pytest.mark.integration  # whole processes

FAILS = "def train():\n    raise ValueError('no such backbone: resnet5')\ntrain()\n"
LOSES_PEER = "raise RuntimeError('[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711')\n"
WAITS_FOR_SIGTERM = """
import os, pathlib, signal, sys, time
run = pathlib.Path(os.environ["RUN_DIR"])
def stop(*_):
    (run / "interrupted").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
print("waiting", flush=True)
time.sleep(60)
"""


@pytest.fixture
def start():
    """Starts a container's first process; after the test, one that still runs is ended as SageMaker would."""
    started = []

    def start(base: Path, **environment: str) -> subprocess.Popen:
        started.append(_start(base, environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _start(base: Path, environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, container.__file__],
        env={"PATH": os.environ["PATH"], "SAGEMAKER_BASE_DIR": str(base)} | environment,
        cwd=base,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_words_arrive_byte_for_byte_and_none_runs(tmp_path, start):
    base = make_host(tmp_path / "ml", COMPLETES)
    assert start(base).wait(20) == 0
    told = json.loads((base / "output/data/metrics.json").read_text())
    assert told["words"] == WORDS
    assert told["cwd"] == str(base / "code")
    assert list(tmp_path.rglob("ran")) == []


def test_the_first_host_alone_keeps_the_model(tmp_path, start):
    hosts = [f"algo-{number}" for number in (10, 2, 1)]
    for current, rank, model in (("algo-1", "0", ["best.ckpt"]), ("algo-10", "2", [])):
        base = make_host(tmp_path / current, COMPLETES, hosts=hosts, current=current)
        assert start(base).wait(20) == 0
        assert [path.name for path in (base / "model").iterdir()] == model
        published = "metrics.json" if current == "algo-1" else "hosts/algo-10/metrics.json"
        assert files_below(base / "output/data") == [published]
        assert json.loads((base / "output/data" / published).read_text())["rank"] == rank
        in_s3 = ["run/checkpoints/best.ckpt", "run/metrics.json"] if current == "algo-1" else []
        assert files_below(base / "checkpoints") == in_s3, "which of two hosts' files stays there, nobody knows"


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_after_a_resume_no_host_publishes_what_it_was_restored_with(tmp_path, start):
    published = {}
    for current in ("algo-1", "algo-2"):
        base = make_host(tmp_path / current, COMPLETES, ["algo-1", "algo-2"], current)
        run = base / "checkpoints" / "run"  # as SageMaker restores it on every host
        (run / "csv").mkdir(parents=True)
        (run / "config.yaml").write_text("of the first attempt")
        (run / "csv" / "metrics.csv").write_text("of the first attempt")
        assert start(base).wait(20) == 0
        published[current] = set(files_below(base / "output/data"))
    assert published["algo-1"] == {"config.yaml", "csv/metrics.csv", "metrics.json"}
    assert published["algo-2"] == {"hosts/algo-2/metrics.json"}


def test_the_first_host_exports_what_it_keeps(tmp_path, start):
    export = """
import pathlib, sys
words = dict(word.split("=", 1) for word in sys.argv[1:])
text = pathlib.Path(words["checkpoint"]).read_text()
(pathlib.Path(words["output_dir"]) / "model.json").write_text(text + " exported")
"""
    for current in ("algo-1", "algo-2"):
        base = make_host(tmp_path / current, COMPLETES, ["algo-1", "algo-2"], current, export=export)
        assert start(base).wait(20) == 0
        written = {path.name: path.read_text() for path in (base / "model").iterdir()}
        expected = {"best.ckpt": "best", "model.json": "best exported"} if current == "algo-1" else {}
        assert written == expected


def test_a_failed_export_fails_the_job_and_loses_no_weights(tmp_path, start):
    base = make_host(tmp_path / "ml", COMPLETES, export="import sys\nsys.exit(3)\n")
    assert start(base).wait(20) == 1
    assert "The training is complete, but the export of its model ended with exit code 3" in failure(base)
    assert "STOCKTAKE_EXPORT" in failure(base)
    assert (base / "output/data/best.ckpt").read_text() == "best", "of a failed job SageMaker keeps no model"


def test_who_wants_no_exported_model_gets_none(tmp_path, start):
    base = make_host(tmp_path / "ml", COMPLETES, export="import sys\nsys.exit(3)\n")
    assert start(base, STOCKTAKE_EXPORT="false").wait(20) == 0
    assert [path.name for path in (base / "model").iterdir()] == ["best.ckpt"]


def test_a_job_without_an_exported_model_says_so(tmp_path, start):
    process = start(make_host(tmp_path / "ml", COMPLETES))
    assert process.wait(20) == 0
    assert "No exported model: there is no scripts/export.py.\n" in process.stdout.read()


@pytest.mark.parametrize(
    ("words", "environment", "code"),
    [([], {}, 1), (["trainer.accelerator=cpu"], {}, 0), ([], {"CUDA_VISIBLE_DEVICES": ""}, 0)],
)
def test_a_gpu_that_cannot_be_used_ends_the_job_before_it_trains(tmp_path, start, words, environment, code):
    base = make_host(tmp_path / "ml", COMPLETES, words=words, instance_type="ml.g5.xlarge")
    assert start(base, **environment).wait(20) == code
    assert (base / "checkpoints/run/metrics.json").exists() is (code == 0)
    if code:
        told = failure(base)
        assert told.startswith("PyTorch cannot use the GPU of this ml.g5.xlarge: RuntimeError: The NVIDIA driver")
        assert "trainer.accelerator=cpu" in told


def test_an_instance_without_a_gpu_is_not_asked_for_one(tmp_path, start):
    assert start(make_host(tmp_path / "ml", COMPLETES, instance_type="ml.c5.xlarge")).wait(20) == 0


def test_a_user_error_is_written_for_sagemaker(tmp_path, start):
    base = make_host(tmp_path / "ml", FAILS)
    assert start(base).wait(20) == 1
    assert failure(base).startswith("Traceback (most recent call last):")
    assert failure(base).endswith("ValueError: no such backbone: resnet5")


def test_of_a_long_error_the_end_is_kept(tmp_path):
    container_output.write_failure(tmp_path, "a" * 5000 + "the reason")
    assert len(failure(tmp_path)) == container_output.MAX_FAILURE_CHARACTERS
    assert failure(tmp_path).endswith("the reason")


def test_frames_of_installed_packages_leave_room_for_the_users_own(tmp_path):
    installed = '  File "/x/site-packages/hydra/main.py", line 9, in main\n    return go(\n           ^^^\n'
    own = '  File "/code/train.py", line 3, in main\n    spoil()\n'
    container_output.write_failure(
        tmp_path, f"Traceback (most recent call last):\n{installed * 50}{own}{installed}KeyError: 1"
    )
    assert failure(tmp_path) == f"Traceback (most recent call last):\n{own}KeyError: 1"


def test_a_message_without_a_traceback_is_the_reason(tmp_path, start):
    base = make_host(tmp_path / "ml", "import sys\nsys.exit('data.root=nowhere does not exist')\n")
    assert start(base).wait(30) == 1
    assert (base / "output" / "failure").read_text() == "data.root=nowhere does not exist"


def test_an_interruption_is_no_failure_and_no_end(tmp_path, start):
    base = make_host(tmp_path / "ml", WAITS_FOR_SIGTERM)
    process = start(base)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == WAITS + "\n"
    # Ended by itself it could count as failed, or as complete: SageMaker ends it.
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    assert not (base / "output/failure").exists()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == container.INTERRUPTED


def test_a_signal_after_the_last_step_is_an_interruption_too(tmp_path, start):
    export = 'import time\nprint("exporting", flush=True)\ntime.sleep(60)\n'
    base = make_host(tmp_path / "ml", COMPLETES, export=export)
    process = start(base)
    assert process.stdout.readline() == "exporting\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == WAITS + "\n", "neither failed nor completed without its model"
    assert not (base / "output/failure").exists()


def test_the_marker_of_an_earlier_attempt_does_not_count(tmp_path, start):
    base = make_host(tmp_path / "ml", FAILS)
    (base / "checkpoints/run").mkdir()
    (base / "checkpoints/run/interrupted").touch()
    assert start(base).wait(20) == 1


def test_a_host_that_lost_its_peer_waits_for_its_own_end(tmp_path, start):
    base = make_host(tmp_path / "ml", LOSES_PEER, hosts=["algo-1", "algo-2"])
    process = start(base)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == WAITS + "\n"
    assert not (base / "output/failure").exists()


def test_a_lost_peer_on_a_single_host_is_an_error_like_others(tmp_path, start):
    base = make_host(tmp_path / "ml", LOSES_PEER)
    assert start(base).wait(20) == 1


def test_the_users_traceback_is_chosen_before_its_echoes(tmp_path):
    for rank, text in enumerate((LOSES_PEER, "KeyError: 'b'", LOSES_PEER)):
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / "stderr.log").write_text(f"a warning\nTraceback (most recent call last):\n{text}")
    assert container_output.last_tracebacks(tmp_path)[0] == "Traceback (most recent call last):\nKeyError: 'b'"


def test_what_goes_wrong_before_the_training_is_told_too(tmp_path, start):
    base = make_host(tmp_path / "ml", COMPLETES)
    (base / "input/data/code/code.tar.gz").write_bytes(b"cut")
    assert start(base).wait(20) == 1
    assert failure(base).startswith("ReadError: ")


def test_torchrun_gets_host_master_and_port(tmp_path):
    base = make_host(tmp_path / "ml", COMPLETES, hosts=["algo-2", "algo-1"], current="algo-2", words=["a=1"])
    command = container.torchrun_command(container.Host(base), {"MASTER_PORT": "7777", "NPROC_PER_NODE": "4"}, tmp_path)
    assert command[1:3] == ["-m", "torch.distributed.run"]
    assert {"--nnodes=2", "--node-rank=1", "--master-addr=algo-1", "--master-port=7777"} <= set(command)
    assert "--nproc-per-node=4" in command
    assert command[-2:] == ["train.py", "a=1"]


def test_the_key_of_wandb_comes_from_its_secret(tmp_path, monkeypatch):
    base = make_host(tmp_path / "ml", COMPLETES)
    monkeypatch.setattr(container, "read_secret", {"stocktake/wandb": "k" * 40}.__getitem__)
    monkeypatch.setenv("WANDB_SECRET_ID", "stocktake/wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    environment = container.training_environment(container.Host(base), base / "code")
    assert environment["WANDB_API_KEY"] == "k" * 40


def test_the_region_that_sagemaker_tells_reaches_boto3(tmp_path, start):
    script = """
import os, pathlib, boto3
pathlib.Path(os.environ["RUN_DIR"], "region").write_text(boto3.client("secretsmanager").meta.region_name)
"""
    base = make_host(tmp_path / "ml", script)
    assert start(base, AWS_REGION="eu-west-1", HOME=str(tmp_path)).wait(30) == 0, failure(base)
    assert (base / "output/data/region").read_text() == "eu-west-1"


def test_it_runs_without_any_package(tmp_path):
    for path in container.SOURCES:  # as they are uploaded
        shutil.copy(path, tmp_path)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import container"
    code += "; print([name for name in sys.modules if name.split('.')[0] in ('stocktake', 'boto3', 'torch')])"
    assert subprocess.check_output([sys.executable, "-I", "-S", "-c", code], text=True).strip() == "[]"


@pytest.mark.slow
def test_the_real_torchrun_meets_on_two_hosts_and_passes_sigterm_on(tmp_path, start):
    script = WAITS_FOR_SIGTERM.replace(
        'print("waiting", flush=True)',
        'print("waiting", os.environ["RANK"], os.environ["WORLD_SIZE"], flush=True)',
    )
    addresses = ["127.0.0.1", "127.0.0.2"]
    port = free_port()
    bases = [
        make_host(
            tmp_path / address,
            script,
            hosts=addresses,
            current=address,
            words=WORDS,
            fake_torchrun=False,
        )
        for address in addresses
    ]
    processes = [start(base, MASTER_PORT=port, NPROC_PER_NODE="1") for base in bases]
    for rank, process in enumerate(processes):
        assert f"waiting {rank} 2" in process.stdout.readline()
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
        assert WAITS + "\n" in process.stdout
    assert not any((base / "output/failure").exists() for base in bases)


@pytest.mark.slow
def test_the_real_torchrun_keeps_the_users_traceback(tmp_path, start):
    base = make_host(tmp_path / "ml", FAILS, ["127.0.0.1"], "127.0.0.1", fake_torchrun=False)
    assert start(base, MASTER_PORT=free_port(), NPROC_PER_NODE="2").wait(60) == 1
    assert failure(base).endswith("ValueError: no such backbone: resnet5")
    assert "ChildFailedError" not in failure(base)


def test_an_interruption_has_the_name_that_a_training_gives_it():
    assert container.INTERRUPTED_NAME == INTERRUPTED_NAME

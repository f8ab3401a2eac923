"""How a command ends: after Ctrl-C, after an error in a worker, after an error of this project's own."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest
import torch
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from stocktake.cli.error_handling import handle_errors
from stocktake.cli.training_messages import what_is_kept
from stocktake.storage import Folder

pytestmark = pytest.mark.integration  # whole commands

REPOSITORY = pathlib.Path(__file__).parents[2]


class Unreadable(torch.utils.data.Dataset):
    """Fails in the worker as a root does that has gone, or as code with a fault does."""

    def __init__(self, folder: str | None):
        self.folder = folder

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return Folder(self.folder).read("gone.jpg") if self.folder else [][index]


def ended(capsys) -> list[str]:
    told = capsys.readouterr()
    assert told.out == ""
    return told.err.strip().splitlines()


def test_an_error_in_a_worker_ends_with_its_own_message(capsys, tmp_path):
    with pytest.raises(SystemExit) as end, handle_errors():
        list(DataLoader(Unreadable(str(tmp_path / "gone")), num_workers=1))
    assert end.value.code == 1
    assert ended(capsys) == [f"{tmp_path / 'gone' / 'gone.jpg'} does not exist."]


def test_a_fault_in_a_worker_ends_with_its_own_message_last(capsys):
    with pytest.raises(SystemExit), handle_errors():
        list(DataLoader(Unreadable(None), num_workers=1))
    assert ended(capsys)[-1] == "IndexError: list index out of range"


def test_a_fault_has_its_trace_first_and_its_message_last(capsys):
    with pytest.raises(SystemExit), handle_errors():
        raise KeyError("no such thing")
    first, *_, last = ended(capsys)
    assert first.startswith("Traceback")
    assert last == "KeyError: 'no such thing'"


@pytest.mark.parametrize(
    ("error", "message"), [(ValueError("bad"), "ValueError: bad"), (KeyError("x"), "KeyError: 'x'")]
)
def test_a_run_of_a_sweep_that_fails_is_told_at_once_as_hydra_tells_only_the_first(capsys, error, message):
    with pytest.raises(CompactHydraException, match=message), handle_errors(is_sweep=True):
        raise error
    assert ended(capsys)[-1] == f"This run of the sweep failed, the others go on: {message}"


def test_ctrl_c_ends_with_130_and_one_line(capsys):
    with pytest.raises(SystemExit) as end, handle_errors(kept=lambda: "All of it is kept."):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert ended(capsys) == ["Stopped by Ctrl-C. All of it is kept."]


def test_ctrl_c_ends_with_130_where_lightning_ends_with_1(capsys):
    def fit():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(SystemExit) as end, handle_errors(), handle_errors():
        fit()
    assert end.value.code == 130
    assert ended(capsys) == ["Stopped by Ctrl-C."]


def test_an_exit_code_of_the_command_itself_stays():
    with pytest.raises(SystemExit) as end, handle_errors():
        sys.exit(75)
    assert end.value.code == 75


def test_ctrl_c_tells_where_the_best_checkpoint_is_and_how_to_go_on(monkeypatch, tmp_path):
    run_dir = tmp_path / "my runs [1]"
    checkpoints = run_dir / "checkpoints"
    monkeypatch.setattr(sys, "argv", ["train.py", "experiment=demo", "callbacks=spot"])
    cfg = OmegaConf.create(
        {"run_dir": str(run_dir), "checkpoint_dir": str(checkpoints), "resume": False, "callbacks": {"spot": {"x": 1}}}
    )
    assert what_is_kept(cfg).startswith("Nothing is kept: no validation was finished. Go on from the newest step: ")
    checkpoints.mkdir(parents=True)
    (checkpoints / "best.ckpt").touch()
    told = what_is_kept(cfg)
    assert f"""evaluate it: python scripts/evaluate.py 'checkpoint="{checkpoints}/best.ckpt"'.""" in told
    assert told.endswith(f"""python train.py experiment=demo callbacks=spot resume=true 'hydra.run.dir="{run_dir}"'""")


def test_a_missing_package_is_told_with_what_to_type(capsys):
    with pytest.raises(SystemExit), handle_errors():
        raise ModuleNotFoundError("No module named 'timm.data'", name="timm.data")
    (line,) = ended(capsys)
    assert line.startswith(f"The package timm is missing in this Python ({sys.executable}). Type: make setup && ")
    assert "scripts/doctor.py" in line


COMMANDS = [REPOSITORY / "train.py", *sorted((REPOSITORY / "scripts").glob("*.py"))]


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_a_python_without_the_packages_is_told_what_to_type(path):
    done = subprocess.run([sys.executable, "-I", "-S", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "stocktake is missing in this Python. Type: make setup && . .venv/bin/activate\n"


WITHOUT_HYDRA = """
import runpy, sys
sys.modules["hydra"] = None
runpy.run_path("scripts/evaluate.py", run_name="__main__")
"""


def test_a_python_with_this_package_alone_is_told_what_to_type():
    done = subprocess.run([sys.executable, "-c", WITHOUT_HYDRA], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("The package hydra is missing in this Python (")
    assert len(done.stderr.splitlines()) == 1


def read_one_line_of(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-u", *words]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=60)
    return process


def test_help_whose_reader_has_gone_ends_quietly():
    process = read_one_line_of("scripts/prepare.py", "--help")
    assert (process.stderr.read(), process.returncode) in (("", -13), ("", 0))  # 0: all was in the pipe already


def test_answers_whose_reader_has_gone_end_quietly():
    code = "from stocktake.cli.error_handling import handle_errors\nwith handle_errors(kept=lambda: 'It is kept.'):"
    process = read_one_line_of("-c", f"{code}\n    while True: print('an answer', flush=True)")
    assert process.returncode == 141
    assert process.stderr.read() == "\nStopped, because nobody reads the output any more. It is kept.\n"


def test_another_broken_pipe_is_told(capsys):
    with pytest.raises(SystemExit) as end, handle_errors():
        raise BrokenPipeError("of a socket")
    assert end.value.code == 1
    assert ended(capsys)[-1] == "BrokenPipeError: of a socket"


def test_ctrl_c_in_the_first_seconds_is_one_line():
    words = ["train.py", "experiment=demo", "data.root=/nowhere", "data.draw=true"]
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"RUN_DIR": "/nowhere"},
    )
    first = process.stderr.readline()  # before torch is imported
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert first.startswith("Trains demo: resnet10t on the bins in /nowhere, 30 epochs.")
    assert process.returncode == 130
    assert (out, len(err.strip().splitlines())) == ("", 1), err
    assert err.strip().startswith("Stopped by Ctrl-C.")

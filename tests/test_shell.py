"""What is told to type goes through a real shell and Hydra's own parser, and comes back as it was."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from stocktake.shell import command, override, typed_again

ODD = [
    "my bins [1]",
    "it's",
    'a "b"',
    "a,b=c",
    "shelf A #3",
    "null",
    "1e3",
    "0x1",
    "é ü",
    "${HOME}",
    "a\\",
    "{x: 1}",
    "",
]


def read_by_hydra(word: str):
    """Returns what a configuration holds after the word was parsed and looked up."""
    parsed = OverridesParser.create().parse_override(word)
    value = parsed.value()
    value = value.text if isinstance(value, QuotedString) else value
    return OmegaConf.create({"value": value}).value


@pytest.mark.parametrize("value", ODD)
def test_a_word_to_type_survives_a_shell_and_hydra(value):
    shell = subprocess.run(
        ["bash", "-c", f"printf %s {override('root', value)}"], capture_output=True, text=True, check=True
    )
    assert read_by_hydra(shell.stdout) == value


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_survives(value):
    (word,) = shlex.split(override("root", value))
    assert read_by_hydra(word) == value


@given(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.lists(st.text("ab ,[]'\"\\")))
def test_any_value_survives(value):
    (word,) = shlex.split(override("key", value))
    assert read_by_hydra(word) == value


def test_plain_words_stay_plain():
    line = command("scripts/evaluate.py", {"checkpoint": "runs/demo/1/checkpoints/best.ckpt", "split": "test"})
    assert line == "python scripts/evaluate.py checkpoint=runs/demo/1/checkpoints/best.ckpt split=test"
    assert override("root", "s3://bins/abid") == "root=s3://bins/abid"


def test_what_was_typed_is_told_with_what_changes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "experiment=demo", "run_dir=my runs", "resume=false"])
    assert typed_again("resume=true") == "python train.py experiment=demo 'run_dir=my runs' resume=true"


TELLS = "from stocktake.shell import typed_again; print(typed_again('c=3'))"
# What starts its ranks as torchrun does, without torch.
LAUNCHER = """
import os, subprocess, sys
subprocess.run([sys.executable, "-u", *sys.argv[2:]], env=os.environ | {"TORCHELASTIC_RUN_ID": "1"}, check=True)
"""


@pytest.mark.parametrize(
    "start",
    [
        ["python", "-u"],
        ["torchrun", "--nnodes=1"],
        ["python", "-m", "launcher", "--nnodes=1"],
        pytest.param(["torchrun", "--nproc-per-node=1"], marks=pytest.mark.slow),
        pytest.param(["python", "-m", "torch.distributed.run", "--nnodes=1"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_what_stood_in_front_of_the_words_is_told_as_it_was_typed(start, tmp_path):
    (tmp_path / "a script.py").write_text(TELLS)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    bin_dirs = [str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]
    if start == ["torchrun", "--nnodes=1"]:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/torchrun").write_text(f"#!{sys.executable}\n{LAUNCHER}")
        (tmp_path / "bin/torchrun").chmod(0o755)
        bin_dirs.insert(0, str(tmp_path / "bin"))
    done = subprocess.run(
        [*start, "a script.py", "-m", "b=x y", "c=1"],
        **{"cwd": tmp_path, "env": os.environ | {"PATH": ":".join(bin_dirs)}, "capture_output": True, "text": True},
    )
    assert done.stdout == f"{shlex.join(start)} 'a script.py' -m 'b=x y' c=3\n", done.stderr

"""A rehearsal of endpoints that is ended from outside, or in the middle of something, leaves no process behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hosted import account, export_failing

from stocktake.cloud import endpoint_requests as requests

SCRIPT = """
import pathlib, sys, time
from hosted import account
from stocktake.rehearsal.termination import unwinding
with unwinding(), account(pathlib.Path(sys.argv[1])) as there:
    there.create("demo")
    print("in service", flush=True)
    time.sleep(60)
"""


def servers(folder: Path) -> list[psutil.Process]:
    """Returns the servers whose model lies in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(word.startswith(f"model={folder}") for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


def test_sigterm_ends_the_servers_too(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout and process.stdout.readline() == "in service\n"
    assert len(servers(tmp_path)) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=40) == 128 + signal.SIGTERM
    process.stdout.close()
    assert servers(tmp_path) == []


@pytest.mark.parametrize("operation", ["create", "transform"])
def test_what_is_being_started_is_broken_off(tmp_path, operation):
    with account(tmp_path) as there:
        mute = tmp_path / "mute"
        mute.mkdir()
        there.create_model("mute", there.put_model("mute", export_failing(mute, answers_ping=False)))
        (there.s3 / "bins").mkdir()
        (there.s3 / "bins" / "a.png").touch()
        if operation == "create":
            there.create_config("mute", "mute")
            there.sagemaker.create_endpoint(**requests.create_endpoint("mute", "mute"))
        else:
            there.sagemaker.create_transform_job(**requests.transform_job("mute", "mute", "s3://bins/", "s3://out"))
        while not servers(tmp_path):
            time.sleep(0.05)
        began = time.monotonic()
    assert time.monotonic() - began < 10, "not the 300 s in which it could answer /ping"
    assert servers(tmp_path) == []

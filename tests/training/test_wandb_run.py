"""One W&B run for each training: two of one process stay apart, an interrupted one goes on."""

import http.server
import os
import subprocess
import sys
import threading

import pytest
from omegaconf import OmegaConf

from stocktake.training import wandb_run
from stocktake.training.wandb_run import ID_NAME, prepare_wandb
from stocktake.workflows.train import train

pytestmark = pytest.mark.integration  # whole trainings

TINY = [
    *("experiment=demo", "data=abid", "model.weights=none", "data.image_size_px=32", "data.num_workers=0"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "model.channels_last=false", "callbacks.progress=null"),
    *("trainer.max_epochs=1", "data.batch_size=16", "data.limit=16", "logger=wandb", "trainer.log_every_n_steps=1"),
    "+trainer.enable_model_summary=false",
]


def test_two_trainings_of_one_process_are_two_runs(compose, synthetic_root, tmp_path):
    ids = []
    for name in ("first", "second"):
        run_dir = tmp_path / name
        train(compose("train", *TINY, f"data.root={synthetic_root}", output_dir=run_dir))
        (folder,) = (run_dir / "wandb").glob("offline-run-*")
        ids.append((run_dir / ID_NAME).read_text().strip())
        assert folder.name.endswith(ids[-1])
    assert ids[0] != ids[1]


def prepared(run_dir, is_resumed: bool):
    node = OmegaConf.create({"id": None, "offline": True})
    prepare_wandb(node, run_dir, is_resumed)
    return node.id


def test_a_resumed_run_keeps_its_id_and_a_new_one_in_its_folder_does_not(tmp_path):
    first = prepared(tmp_path, False)
    assert prepared(tmp_path, True) == first
    assert prepared(tmp_path, False) != first


def test_a_launchers_name_for_the_run_is_left_to_wandb(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "job-7")
    assert prepared(tmp_path, False) is None


@pytest.fixture
def with_key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)


def is_offline(tmp_path) -> bool:
    node = OmegaConf.create({"id": None, "offline": "auto"})
    prepare_wandb(node, tmp_path, False)
    return node.offline


def test_a_server_that_does_not_answer_means_offline_and_is_told(with_key, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert is_offline(tmp_path)
    assert "http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err


def test_a_server_that_answers_anything_means_online(with_key, monkeypatch, tmp_path, capsys):
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # refuses: 501
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    assert not is_offline(tmp_path)
    thread.join()
    server.server_close()
    assert "cannot be reached" not in capsys.readouterr().err


def test_without_a_key_nobody_is_asked(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setattr(wandb_run, "_is_reachable", lambda: pytest.fail("asked"))
    assert is_offline(tmp_path)


ONE_RUN = """
import sys
from pathlib import Path

from omegaconf import OmegaConf
from pytorch_lightning.loggers import WandbLogger

from stocktake.training.wandb_run import prepare_wandb

node = OmegaConf.create({"id": None, "offline": "auto", "save_dir": sys.argv[1]})
prepare_wandb(node, Path(sys.argv[1]), False)
WandbLogger(**node).experiment.finish()
"""


def test_a_machine_without_a_key_and_without_wandb_mode_logs_offline(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    environment |= {"NETRC": str(tmp_path / "none"), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    line = [sys.executable, "-c", ONE_RUN, str(tmp_path)]
    ended = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "wandb").glob("offline-run-*"))


def test_online_without_a_key_is_refused_in_words(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="Type wandb login"):
        prepare_wandb(OmegaConf.create({"id": None, "offline": False}), tmp_path, False)

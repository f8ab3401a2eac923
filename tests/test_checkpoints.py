"""What `checkpoint=` takes, and what it says of what is no checkpoint."""

import os
import re
import zipfile

import pytest
import torch
from untrained import turned, write_checkpoint

from stocktake.callbacks.calibration import CALIBRATION_KEY
from stocktake.callbacks.run_config import CONFIG_KEY
from stocktake.checkpoints import Checkpoint, CheckpointError, find_checkpoint, read_checkpoint
from stocktake.data.identity import DATA_KEY
from stocktake.storage import StorageError


@pytest.fixture(scope="module")
def run(synthetic_root, tmp_path_factory):
    """A run's folder, called by another name, too."""
    folder = tmp_path_factory.mktemp("runs")
    write_checkpoint(folder / "demo", synthetic_root)
    (folder / "latest").symlink_to("demo")
    return folder / "demo"


@pytest.mark.parametrize("place", ["demo", "demo/", "latest", "demo/checkpoints", "demo/checkpoints/best.ckpt"])
def test_a_run_s_folder_does(run, monkeypatch, place):
    monkeypatch.chdir(run.parent)
    whole = Checkpoint.open(str(run / "checkpoints/best.ckpt"))
    for name in (place, f"file://{run.parent}/{place}"):
        opened = Checkpoint.open(name)
        assert opened.sha256 == whole.sha256
        assert opened.location == find_checkpoint(name)
        assert opened.location.endswith("/checkpoints/best.ckpt") and not opened.location.startswith("/")


def test_a_run_s_folder_in_a_bucket_does(run, s3, tmp_path):
    target = tmp_path / "buckets/bins/runs/demo/checkpoints"
    target.mkdir(parents=True)
    (target / "best.ckpt").write_bytes((run / "checkpoints/best.ckpt").read_bytes())
    assert find_checkpoint("s3://bins/runs/demo") == "s3://bins/runs/demo/checkpoints/best.ckpt"
    assert Checkpoint.open("s3://bins/runs/demo").config["name"] == "tried"
    with pytest.raises(CheckpointError, match="checkpoint=s3://bins/runs/demi does not exist"):
        Checkpoint.open("s3://bins/runs/demi")


def test_a_file_of_another_kind_is_told_in_one_line_of_ours(tmp_path):
    (tmp_path / "README.md").write_text("# Stocktake\n" * 30)
    (tmp_path / "empty.ckpt").touch()
    for name in ("README.md", "empty.ckpt"):
        with pytest.raises(CheckpointError, match=rf"{name} is no checkpoint \(\d+ bytes.*best\.ckpt") as caught:
            read_checkpoint(str(tmp_path / name))
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_told(run, tmp_path, share):
    content = (run / "checkpoints/best.ckpt").read_bytes()
    (tmp_path / "best.ckpt").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"best\.ckpt is broken or cut off \(\d+ bytes\)") as caught:
        read_checkpoint(str(tmp_path / "best.ckpt"))
    assert "weights_only" not in str(caught.value)


def test_bits_that_turned_are_told(run, tmp_path):
    """torch reads the file and says nothing: it checks no checksum."""
    path = tmp_path / "best.ckpt"
    path.write_bytes(turned((run / "checkpoints/best.ckpt").read_bytes()))
    torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match=r"best/data/\d+ in it has another checksum than when it was written"):
        read_checkpoint(str(path))


def test_a_file_that_swells_is_refused_unread(run, tmp_path):
    packed = tmp_path / "best.ckpt"
    with zipfile.ZipFile(run / "checkpoints/best.ckpt") as whole:
        largest = max(whole.infolist(), key=lambda entry: entry.file_size).filename
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in whole.namelist():
                archive.writestr(name, bytes(2**26) if name == largest else whole.read(name))
    assert packed.stat().st_size < 2**23
    with pytest.raises(CheckpointError, match=r"it unpacks to \d+ bytes, and what torch.save writes is not packed"):
        read_checkpoint(str(packed))


def test_a_path_that_is_wrong_names_what_is_there(run, monkeypatch, tmp_path):
    for place, named in [
        (run.parent / "demos", r"in .* there is demo/"),
        (run / "checkpoints/last.ckpt", r"in .*checkpoints there is best\.ckpt"),
        (tmp_path / "empty/best.ckpt", r"in .* there is nothing"),
        (tmp_path, r"does not exist|is a folder"),
    ]:
        with pytest.raises(CheckpointError, match=named):
            read_checkpoint(str(place))


def test_the_root_s_file_is_not_the_working_directory_s(run, monkeypatch):
    monkeypatch.chdir(run / "checkpoints")
    assert not os.path.exists("/best.ckpt")
    with pytest.raises(CheckpointError, match=r"checkpoint=/best\.ckpt does not exist: in / there is"):
        read_checkpoint("/best.ckpt")
    assert CONFIG_KEY in read_checkpoint("best.ckpt")


def test_what_is_said_of_the_data_is_checked(run, tmp_path):
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert Checkpoint.open(str(run)).data is None  # of before it was kept
    torch.save(state | {DATA_KEY: {"manifest_sha256": "0"}}, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match=rf"is refused: The checkpoint's {DATA_KEY} must hold"):
        Checkpoint.open(str(tmp_path / "best.ckpt"))


ODD_WEIGHTS = {
    "a list": (lambda state: [*state.items()], "it holds a list, not a dict of tensors"),
    "numbered": (lambda state: dict(enumerate(state.values())), "0 among its weights is a Tensor, not a tensor with"),
    "texts": (lambda state: dict.fromkeys(state, "?"), "is a str, not a tensor"),
    "without data": (
        lambda state: {key: value.to("meta") for key, value in state.items()},
        "no tensor of plain numbers",
    ),
    "complex": (lambda state: {key: value + 1j for key, value in state.items()}, "no tensor of plain numbers"),
    "diverged": (lambda state: {key: value * float("nan") for key, value in state.items()}, "did its training diverge"),
}


@pytest.mark.parametrize("kind", ODD_WEIGHTS)
def test_weights_that_say_nothing_are_refused(run, tmp_path, kind):
    change, told = ODD_WEIGHTS[kind]
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    torch.save(state | {"state_dict": change(state["state_dict"])}, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match=rf"best\.ckpt is refused: .*{told}"):
        Checkpoint.open(str(tmp_path / "best.ckpt"))


ODD_VALUES = [
    ("data.image_size_px", 0),
    ("data.image_size_px", -5),
    ("data.image_size_px", 10**9),
    ("data.counts", [-1, 2]),
    ("data.resize", "?"),
    ("model.drop_rate", 5),
    ("model.std", [0, 0.5, 0.5]),
    ("model.counts", [1, 10**30]),
]


@pytest.mark.parametrize(("key", "value"), ODD_VALUES)
def test_a_configuration_that_no_training_takes_is_refused(run, tmp_path, key, value):
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    part, name = key.split(".")
    state[CONFIG_KEY][part][name] = value
    torch.save(state, tmp_path / "best.ckpt")
    # torch's own reader refuses a number of more than 64 bits, before any key is known.
    reason = rf"({re.escape(key)}=.*, but .* is needed|Overflow when unpacking)"
    with pytest.raises(CheckpointError, match=rf"best\.ckpt is refused: {reason}"):
        Checkpoint.open(str(tmp_path / "best.ckpt"))


@pytest.mark.parametrize("name", ["best.ckpt", "63"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(StorageError, match=f"{name} is a pipe.*Save what it gives as a file"):
        Checkpoint.open(str(tmp_path / name))


def test_a_link_that_leads_nowhere_is_told(tmp_path):
    (tmp_path / "best.ckpt").symlink_to("moved.ckpt")
    with pytest.raises(CheckpointError, match=r"does not exist: \S+best\.ckpt is a link to moved\.ckpt, which leads"):
        Checkpoint.open(str(tmp_path / "best.ckpt"))


def test_tensors_that_unfold_are_refused(run, tmp_path):
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    torch.save(state | {"seen": [torch.zeros(1).expand(10**11)]}, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match="its tensors unfold to 400000000000 bytes"):
        Checkpoint.open(str(tmp_path / "best.ckpt"))


def test_a_calibration_of_other_counts_is_refused(run, tmp_path):
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    state[CALIBRATION_KEY]["counts"] = [0, 1, 2, 3, 4]
    torch.save(state, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match=r"calibration is of the counts \[0, 1.*model tells \[1, 2.*apart"):
        Checkpoint.open(str(tmp_path / "best.ckpt"))

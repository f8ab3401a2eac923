"""Counts from files, folders, S3 and the web: the network by hand is the oracle, the servers are real."""

import contextlib
import errno
import http.server
import json
import os
import pathlib
import socket
import stat
import threading

import numpy
import obstore
import pytest
import torch
from imported import help_and_imports
from local_s3 import local_s3
from PIL import Image

from stocktake.callbacks.run_config import CONFIG_KEY
from stocktake.config import build
from stocktake.inference.image_reader import ImageReader
from stocktake.storage import Folder, StorageOptions

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "predict.py"
SIDE_PX = 32
COUNTS = [1, 2, 3, 4, 5]
MODEL = {
    "_target_": "stocktake.model.counter.BinCounter",
    "backbone": "test_resnet",
    "weights": "none",
    "counts": COUNTS,
    "head": {"_target_": "stocktake.model.heads.SoftmaxHead"},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


@pytest.fixture(scope="session")
def network():
    """A network with weights that were never trained, but loud enough to tell pictures apart."""
    torch.manual_seed(0)
    model = build(MODEL).eval()
    torch.nn.init.normal_(model.backbone.get_classifier().weight)
    return model


@pytest.fixture(scope="session")
def checkpoint(network, tmp_path_factory):
    return write_checkpoint(network, tmp_path_factory.mktemp("run") / "best.ckpt", "letterbox")


def write_checkpoint(network, path, resize):
    config = {
        "name": "tried",
        "model": MODEL,
        "data": {"root": "data", "image_size_px": SIDE_PX, "resize": resize, "counts": COUNTS},
    }
    torch.save({"state_dict": network.state_dict(), CONFIG_KEY: config}, path)
    return path


def draw(path, seed=0, width=SIDE_PX, height=SIDE_PX):
    """Saves a picture of plain blocks, without loss where the format has none; returns its pixels."""
    blocks = numpy.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=numpy.uint8)
    pixels = blocks.repeat(8, axis=0).repeat(8, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@torch.inference_mode()
def by_hand(network, pixels):
    """P(count) of a picture of SIDE_PX x SIDE_PX, without this project's decoding and resizing."""
    normalised = (torch.from_numpy(pixels.astype("float32") / 255).permute(2, 0, 1) - 0.5) / 0.5
    return torch.softmax(network.backbone(normalised[None]), dim=1)[0].numpy()


@pytest.fixture
def answers(run_script, capsys, checkpoint):
    """Counts `images`; returns the exit code and the answers by picture."""

    def count(images, *words, checkpoint=checkpoint):
        places = ",".join(f'"{place}"' for place in images)
        code = run_script("predict.py", f"images=[{places}]", f"checkpoint={checkpoint}", "json=true", *words)
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return code, {row["image"]: row for row in rows}

    return count


def probabilities(answer):
    return [answer["probabilities"][str(count)] for count in COUNTS]


def test_a_picture_of_the_networks_size_gives_what_the_network_gives(answers, network, tmp_path):
    expected = [by_hand(network, draw(tmp_path / f"{seed}.png", seed)) for seed in range(5)]
    code, found = answers([tmp_path], "batch_size=2")
    assert code == 0
    assert list(found) == [str(tmp_path / f"{seed}.png") for seed in range(5)]
    for answer, wanted in zip(found.values(), expected, strict=True):
        assert probabilities(answer) == pytest.approx(wanted, abs=1e-5)
        assert answer["count"] == COUNTS[wanted.argmax()]
    assert len({tuple(probabilities(answer)) for answer in found.values()}) == 5


@pytest.mark.parametrize("resize", ["letterbox", "squash"])
def test_the_picture_is_brought_to_size_as_in_training(answers, network, tmp_path, resize):
    pixels = draw(tmp_path / "wide.png", width=SIDE_PX, height=SIDE_PX // 2)
    framed = numpy.full((SIDE_PX, SIDE_PX, 3), 128, numpy.uint8)
    framed[SIDE_PX // 4 : -SIDE_PX // 4] = pixels
    code, found = answers(
        [tmp_path / "wide.png"], checkpoint=write_checkpoint(network, tmp_path / f"{resize}.ckpt", resize)
    )
    (answer,) = found.values()
    is_framed = probabilities(answer) == pytest.approx(by_hand(network, framed), abs=1e-5)
    assert (code, is_framed) == (0, resize == "letterbox")


def test_a_folder_is_searched_to_its_depth_for_pictures_only(answers, tmp_path):
    for name in ("b.JPG", "a.jpeg", "deep/er/c.webp"):
        draw(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    code, found = answers([f"file://{tmp_path}"])
    assert code == 0
    assert list(found) == [str(tmp_path / name) for name in ("a.jpeg", "b.JPG", "deep/er/c.webp")]


def test_what_cannot_be_read_is_named_and_the_others_are_counted(answers, tmp_path):
    draw(tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_text("hello")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:400])
    (tmp_path / "empty").mkdir()
    missing, unknown = tmp_path / "missing.jpg", "ftp://example.com/a.jpg"
    code, found = answers([tmp_path, tmp_path / "empty", missing, unknown], "batch_size=2")
    assert code == 1
    assert [name for name, answer in found.items() if "count" in answer] == [str(tmp_path / "good.jpg")]
    assert "start with b'hell'" in found[str(tmp_path / "bad.jpg")]["error"]
    assert "damaged or cut off" in found[str(tmp_path / "cut.jpg")]["error"]
    assert "there is no .jpg" in found[str(tmp_path / "empty")]["error"]
    assert found[str(missing)]["error"] == "No such file or directory"
    assert "ftp:// is no location" in found[unknown]["error"]


def test_the_table_shows_counts_and_reasons(run_script, monkeypatch, capsys, checkpoint, network, tmp_path):
    wanted = by_hand(network, draw(tmp_path / "g.png"))
    (tmp_path / "bad.jpg").write_text("hello")
    monkeypatch.setenv("COLUMNS", "250")
    assert run_script("predict.py", f"images=[{tmp_path}]", f"checkpoint={checkpoint}") == 1
    shown = capsys.readouterr().out
    (row,) = (line for line in shown.splitlines() if "g.png" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[0] == "g.png" and f"in {tmp_path}" in shown
    assert cells[1:] == [str(COUNTS[wanted.argmax()]), *(f"{p:.1%}" for p in wanted)]
    assert "start with b'hell'" in shown
    assert "1 of 2 could not be read" in shown


def test_a_picture_over_the_limit_is_refused(answers, tmp_path):
    draw(tmp_path / "a.png")
    size = (tmp_path / "a.png").stat().st_size
    assert answers([tmp_path / "a.png"], f"max_mib={size / 2**20!r}")[0] == 0
    code, found = answers([tmp_path / "a.png"], f"max_mib={(size - 1) / 2**20!r}")
    assert code == 1
    assert "more than max_mib=" in found[str(tmp_path / "a.png")]["error"]


def test_no_picture_at_all_is_an_error(run_script, capsys, checkpoint):
    assert run_script("predict.py", "images=[]", f"checkpoint={checkpoint}") == 1
    assert "images is empty" in capsys.readouterr().err


@contextlib.contextmanager
def web_server(folder):
    """Serves a folder; /endless gives more than it should, without saying beforehand how much."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            if self.path != "/endless":
                return super().do_GET()
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(bytes(2**20))
            return None

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pictures_come_from_the_web(answers, network, tmp_path):
    wanted = by_hand(network, draw(tmp_path / "a.png"))
    with web_server(tmp_path) as url:
        good, missing, endless = f"{url}/a.png?size=full", f"{url}/b.png", f"{url}/endless"
        code, found = answers([good, missing, endless], "max_mib=0.5")
    assert code == 1
    assert probabilities(found[good]) == pytest.approx(wanted, abs=1e-5)
    assert "404" in found[missing]["error"]
    assert "more than max_mib=0.5" in found[endless]["error"]


def test_pictures_come_from_s3(monkeypatch, tmp_path):
    contents = {"bins/1.jpg": b"one", "bins/deep/2.PNG": b"two", "bins/list.json": b"{}", "binsful.jpg": b"three"}
    (tmp_path / "bucket").mkdir()
    with local_s3(tmp_path) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        for key, content in contents.items():
            obstore.put(Folder("s3://bucket").store, key, content)
        reader = ImageReader(StorageOptions(max_retries=0), max_bytes=4, timeout_s=5)
        found = reader.expand("s3://bucket/bins/")
        assert found == ["s3://bucket/bins/1.jpg", "s3://bucket/bins/deep/2.PNG"]
        assert [reader.read(place) for place in found] == [b"one", b"two"]
        with pytest.raises(ValueError, match="more than max_mib"):
            reader.read(*reader.expand("s3://bucket/binsful.jpg"))
        with pytest.raises(FileNotFoundError, match=r"s3://bucket/bins/9\.jpg does not exist"):
            reader.read("s3://bucket/bins/9.jpg")
        with pytest.raises(ValueError, match=r"there is no \.jpg"):
            reader.expand("s3://bucket/nothing")


def test_help_shows_an_example_and_waits_for_no_torch(tmp_path):
    shown, imported = help_and_imports(SCRIPT, tmp_path)
    assert "scripts/predict.py 'images=[bin.jpg]' checkpoint=" in shown
    assert "hydra.main" in imported
    assert not imported & {"torch", "timm", "pytorch_lightning"}
    assert list(tmp_path.iterdir()) == []


def test_a_device_a_pipe_or_a_socket_is_not_waited_for(monkeypatch, tmp_path):
    reader = ImageReader(StorageOptions(), max_bytes=1000, timeout_s=5)
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        bound.bind("socket.jpg")
        for place in ("/dev/zero", "/dev/null", str(tmp_path / "pipe.jpg"), "socket.jpg"):
            with pytest.raises(ValueError, match="a pipe, a socket or a device"):
                reader.read(place)
    assert reader.expand(str(tmp_path)) == [str(tmp_path / "pipe.jpg"), str(tmp_path / "socket.jpg")]
    # Should a pipe take a file's place once it was looked at, nobody is waited for.
    monkeypatch.setattr(stat, "S_ISREG", lambda mode: True)
    assert reader.read(str(tmp_path / "pipe.jpg")) == b""
    for max_bytes in (0, 33 * 2**20):
        with pytest.raises(ValueError, match=r"images of up to 32 MiB are read\. Type max_mib=32 or less"):
            ImageReader(StorageOptions(), max_bytes, timeout_s=5)


def test_a_folder_that_cannot_be_looked_into_is_named(answers, monkeypatch, tmp_path):
    (tmp_path / "closed").mkdir()
    draw(tmp_path / "closed" / "unseen.png")
    draw(tmp_path / "open.png")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    scandir = os.scandir

    def closed(path="."):  # chmod holds nothing back from root
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    code, found = answers([tmp_path])
    unseen, gone, seen = found.values()
    assert (
        code == 1
        and seen["count"]
        and (unseen["image"], gone["image"])
        == (
            str(tmp_path / "closed"),
            str(tmp_path / "gone.jpg"),
        )
    )
    assert "Permission denied" in unseen["error"] and "No such file" in gone["error"]


def test_a_name_that_a_terminal_would_obey_is_shown_and_not_obeyed(
    run_script, capsys, monkeypatch, checkpoint, tmp_path
):
    draw(tmp_path / "good.png")
    (tmp_path / "\x1b[31mred\udcff.png").write_text("hello")
    monkeypatch.setenv("COLUMNS", "400")
    assert run_script("predict.py", f"images=[{tmp_path}]", f"checkpoint={checkpoint}") == 1
    shown = capsys.readouterr().out
    assert r"\x1b[31mred\udcff.png" in shown and "\x1b" not in shown and "good.png" in shown

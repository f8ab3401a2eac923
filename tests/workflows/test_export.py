"""One picture, four ways to ask: the evaluation's, the session's, the predictor's and the command's."""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import Distribution, PackageNotFoundError

import numpy
import onnx
import onnxruntime
import pytest
import torch
from evaluation_results import make_result, make_subject
from PIL import Image
from untrained import CALIBRATION, COUNTS, HEADS, write_checkpoint

import stocktake
from stocktake.callbacks.calibration import CALIBRATION_KEY
from stocktake.checkpoints import Checkpoint, CheckpointError
from stocktake.data.identity import DataIdentity
from stocktake.data.manifest import Manifest
from stocktake.data.transforms import Resize, decode
from stocktake.images.decoding import read_pixels
from stocktake.metrics.calibration import Calibration
from stocktake.onnx_export.network_graph import network_graph
from stocktake.onnx_export.provenance import evaluation_of, without_locations
from stocktake.run_folder import WouldReplaceError, check_seal
from stocktake.serving.model_folder import MODEL_SEAL, ModelFolderError
from stocktake.serving.predictor import Predictor
from stocktake.shell import command
from stocktake.storage import Folder, StorageOptions
from stocktake.workflows.ensemble import combine
from stocktake.workflows.export import export, write
from stocktake.workflows.predict import predict

CONF = pathlib.Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def graphs() -> dict[tuple, bytes]:
    """Networks that were translated, by their weights and what else they were translated with."""
    return {}


@pytest.fixture
def translated_once(graphs, monkeypatch):
    """For tests of what stands beside the graph: torch's exporter takes seconds, and so it gets a network once."""

    def translate(counter, *options):
        weights = b"".join(value.numpy().tobytes() for value in counter.state_dict().values())
        made_of = (hashlib.sha256(weights).digest(), repr(counter), *options)
        if made_of not in graphs:
            graphs[made_of] = network_graph(counter, *options).SerializeToString()
        return onnx.ModelProto.FromString(graphs[made_of])

    monkeypatch.setattr("stocktake.workflows.export.network_graph", translate)


@torch.inference_mode()
def evaluated(checkpoint, contents):
    """P(count) as an evaluation tempers it, `probabilities_NK`."""
    opened = Checkpoint.open(str(checkpoint))
    resize = Resize(opened.config["data"]["image_size_px"], opened.config["data"]["resize"])
    images_BCSS = torch.stack([resize(decode(content)) for content in contents])
    found = opened.model.predict_step({"images": images_BCSS, "image_ids": []})["probabilities"]
    return opened.calibration.apply(found.numpy())[0]


def odd_pictures(folder):
    folder.mkdir()
    draw = numpy.random.default_rng(0)
    for height, width in [(37, 501), (501, 37), (32, 32), (5, 3)]:
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=numpy.uint8)).save(
            folder / f"{height}x{width}.png"
        )
    return sorted(folder.iterdir())


def assert_all_agree(compose, checkpoint, model, paths, tolerance):
    contents = [path.read_bytes() for path in paths]
    expected_NK = evaluated(checkpoint, contents)
    predictor = Predictor.open(str(model), num_threads=1)
    session = onnxruntime.InferenceSession(str(model / "model.onnx"))
    images = ",".join(map(str, paths))
    ways = [
        [session.run(["probabilities"], {"pixels": read_pixels(content)})[0] for content in contents],
        [list(predictor.predict(content).probabilities.values()) for content in contents],
    ]
    for counted_by in (f"exported={model}", f"checkpoint={checkpoint}"):
        answers = predict(compose("predict", f"images=[{images}]", counted_by, "json=true", "device=cpu"))
        ways.append([list(answer.probabilities.values()) for answer in answers])
    for found_NK in ways:
        numpy.testing.assert_allclose(found_NK, expected_NK, atol=tolerance)
    assert numpy.abs(expected_NK - expected_NK[0]).max() > 0.01  # else a graph that sees nothing would agree as well


@pytest.mark.parametrize(("head", "resize"), [("softmax", "squash"), ("soft", "letterbox"), ("corn", "letterbox")])
def test_all_ways_to_ask_agree(compose, synthetic_root, tmp_path, capsys, head, resize):
    checkpoint = write_checkpoint(tmp_path, synthetic_root, head, resize)
    gist = export(compose("export", f"checkpoint={checkpoint}", "num_checked=8"))
    typed, last = capsys.readouterr().out.splitlines()[-2:]
    assert json.loads(last) == gist and typed == f"Type next: {command('scripts/serve.py', {'model': gist['model']})}"
    assert gist["model"] == str(tmp_path / "model")
    assert gist["max_difference"] < 1e-5
    assert_all_agree(compose, checkpoint, tmp_path / "model", odd_pictures(tmp_path / "odd"), 1e-5)

    model = json.loads((tmp_path / "model/model.json").read_text())
    check_seal(model, MODEL_SEAL)
    with pytest.raises(ValueError, match="model_sha256"):
        check_seal(model | {"image_size_px": 33}, MODEL_SEAL)
    assert (model["counts"], model["resize"], model["head"]) == (COUNTS, resize, HEADS[head])
    assert Calibration.from_dict(model["calibration"]) == CALIBRATION
    assert (model["weights_license"], model["metrics"]) == ("none: trained from scratch", None)
    assert b"site-packages" not in (tmp_path / "model/model.onnx").read_bytes()  # nor other places of this machine
    card = (tmp_path / "model/README.md").read_text()
    assert all(said in card for said in ("warehouse's record, not a person's count", model["version"], "1.700"))
    if head == "softmax":  # once is enough
        assert_counts_without_torch(synthetic_root, tmp_path / "model")


def assert_counts_without_torch(root, model):
    code = f"""
import sys
from hydra import compose, initialize_config_dir
from stocktake.workflows.predict import predict
with initialize_config_dir({str(CONF)!r}, version_base="1.3"):
    predict(compose("predict", ["images=[{root}]", "exported={model}", "json=true"]))
print({{"torch", "torchvision", "pytorch_lightning"}} & {{*sys.modules}})
"""
    lines = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert lines[-1] == "set()"
    assert len(lines) > 50 and all(sum(json.loads(line)["probabilities"].values()) > 0.999 for line in lines[:-1])


def test_an_ensemble_answers_the_same_everywhere(compose, synthetic_root, tmp_path):
    checkpoints = [
        write_checkpoint(tmp_path / head, synthetic_root, head, seed=seed) for seed, head in enumerate(HEADS)
    ]
    words = [f"checkpoints=[{','.join(map(str, checkpoints))}]", f"output_dir={tmp_path / 'all'}", "num_workers=0"]
    checkpoint = combine(compose("ensemble", *words))["checkpoint"]
    state = torch.load(checkpoint, weights_only=True)  # nobody trained it, and so its own temperature leaves little
    torch.save(state | {CALIBRATION_KEY: CALIBRATION.to_dict()}, checkpoint)
    export(compose("export", f"checkpoint={checkpoint}", "num_checked=8"))
    assert_all_agree(compose, checkpoint, tmp_path / "all/model", odd_pictures(tmp_path / "odd"), 1e-5)
    model = json.loads((tmp_path / "all/model/model.json").read_text())
    assert model["head"] == "SoftmaxHead + SoftLabelHead + CornHead"
    assert model["weights_license"] == "none: trained from scratch"


@pytest.mark.usefixtures("translated_once")
def test_a_source_that_is_not_installed_exports_and_says_its_version(compose, synthetic_root, tmp_path, monkeypatch):
    found = Distribution.from_name

    def only_others(name):  # as in a training container, where the code is a folder on PYTHONPATH
        if name == "stocktake":
            raise PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(Distribution, "from_name", only_others)
    checkpoint = write_checkpoint(tmp_path, synthetic_root)
    export(compose("export", f"checkpoint={checkpoint}", "num_checked=2"))
    versions = json.loads((tmp_path / "model/model.json").read_text())["versions"]
    assert versions["stocktake"] == stocktake.__version__
    assert torch.__version__.startswith(versions["torch"])


@pytest.mark.usefixtures("translated_once")
def test_eight_bits_say_what_they_cost(compose, synthetic_root, tmp_path):
    checkpoint = write_checkpoint(tmp_path, synthetic_root)
    words = ["int8=true", "num_checked=8", "num_calibrated=4", f"output_dir={tmp_path / 'int8'}"]
    export(compose("export", f"checkpoint={checkpoint}", *words))
    model = json.loads((tmp_path / "int8/model.json").read_text())
    assert model["int8"] and model["version"].endswith("-int8")
    assert model["check"]["float32"]["max_difference"] < 1e-5 < model["check"]["max_difference"] < 0.3
    assert b"QuantizeLinear" in (tmp_path / "int8/model.onnx").read_bytes()


def test_a_checkpoint_without_a_calibration_is_refused(compose, synthetic_root, tmp_path):
    checkpoint = write_checkpoint(tmp_path, synthetic_root, calibration=None)
    with pytest.raises(CheckpointError, match=r"holds no calibration.*best\.ckpt"):
        export(compose("export", f"checkpoint={checkpoint}"))
    assert not (tmp_path / "model").exists()


def test_a_folder_half_written_is_not_taken_for_whole(tmp_path, monkeypatch):
    (tmp_path / "model.json").write_text("{}")  # of an earlier export
    monkeypatch.setattr("stocktake.workflows.export.model_card", lambda *_: "card")
    monkeypatch.setattr(Folder, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(Folder(str(tmp_path)), b"graph", b"baseline", {}, None)
    with pytest.raises(ModelFolderError, match="no whole model"):
        Predictor.open(str(tmp_path))


def test_real_bins_and_real_weights_agree(compose, synthetic_root, abid_root, weights, tmp_path):
    words = {"backbone": "mobilenetv2_100", "weights": str(weights), "mean": [0.5] * 3, "std": [0.5] * 3}
    checkpoint = write_checkpoint(tmp_path, synthetic_root, resize="letterbox", **words)
    gist = export(compose("export", f"checkpoint={checkpoint}", "num_checked=4", "weights_license=apache-2.0"))
    assert gist["max_difference"] < 1e-4
    paths = sorted((abid_root / "bin-images").glob("*.jpg"))[::1500]
    assert_all_agree(compose, checkpoint, tmp_path / "model", paths, 1e-4)
    assert json.loads((tmp_path / "model/model.json").read_text())["weights_license"] == "apache-2.0"


@pytest.mark.usefixtures("translated_once")
def test_model_json_names_the_data_that_was_trained_on(compose, synthetic_root, tmp_path, capsys):
    manifest = Manifest.read(Folder(str(synthetic_root)))
    trained = DataIdentity.of(manifest, manifest.rows("train", None, COUNTS))
    same = write_checkpoint(tmp_path / "same", synthetic_root, data=trained)
    export(compose("export", f"checkpoint={same.parents[1]}", "num_checked=4"))
    model = json.loads((tmp_path / "same/model/model.json").read_text())
    assert (model["manifest_sha256"], model["num_train_bins"]) == (manifest.sha256, trained.num_train_bins)
    assert (model["data"], model["check"]["num_trained_on"]) == (manifest.origin, 0)
    assert "is not the dataset" not in capsys.readouterr().err

    seen = DataIdentity.of(manifest, manifest.rows("valid", 3, COUNTS))
    other = write_checkpoint(tmp_path / "other", synthetic_root, data=replace(seen, manifest_sha256="0" * 64))
    export(compose("export", f"checkpoint={other}", "num_checked=4"))
    assert re.search(r"is not the dataset that the model was trained on.* 3 of the 4 images", capsys.readouterr().err)
    model = json.loads((tmp_path / "other/model/model.json").read_text())
    assert (model["manifest_sha256"], model["data"]) == ("0" * 64, {"source": seen.source})
    assert (model["check"]["manifest_sha256"], model["check"]["num_trained_on"]) == (manifest.sha256, 3)


@pytest.mark.usefixtures("translated_once")
def test_another_model_is_replaced_only_when_told(compose, synthetic_root, tmp_path):
    first, second = (write_checkpoint(tmp_path / name, synthetic_root, seed=seed) for seed, name in enumerate("ab"))
    words = ["num_checked=2", f"output_dir={tmp_path / 'model'}"]
    export(compose("export", f"checkpoint={first}", *words, "version=2"))
    kept = (tmp_path / "model/model.json").read_bytes()
    assert json.loads(kept)["version"] == "2"
    for checkpoint, more, named in [
        (second, [], "checkpoint_sha256 is"),
        (first, ["int8=true"], "int8 is False there"),
    ]:
        with pytest.raises(WouldReplaceError, match=named):
            export(compose("export", f"checkpoint={checkpoint}", *words, *more))
    assert (tmp_path / "model/model.json").read_bytes() == kept
    export(compose("export", f"checkpoint={second}", *words, "overwrite=true"))
    assert (tmp_path / "model/model.json").read_bytes() != kept


@pytest.mark.parametrize("content", ["", '{"split": "te', "[]", '{"checkpoint_sha256": "0"}', '{"calibration": {}}'])
def test_an_evaluation_that_is_half_or_of_another_checkpoint_is_left_out(synthetic_root, tmp_path, capsys, content):
    checkpoint = Checkpoint.open(str(write_checkpoint(tmp_path, synthetic_root)))
    metrics = tmp_path / "evaluation-test/metrics.json"
    metrics.parent.mkdir()
    metrics.write_text(content)
    assert evaluation_of(checkpoint, None, StorageOptions()) is None
    assert "is left out" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"metrics=.* (is empty|holds a list|lacks).*evaluate\.py checkpoint="):
        evaluation_of(checkpoint, str(metrics), StorageOptions())
    others = make_result(subject=make_subject(checkpoint_sha256="0" * 64))
    metrics.write_text(json.dumps(others.to_json()))
    assert evaluation_of(checkpoint, None, StorageOptions()) is None
    assert "is of another checkpoint; it is left out" in capsys.readouterr().err
    mirrored = make_result(subject=make_subject(checkpoint_sha256=checkpoint.sha256, flip_tta=True))
    metrics.write_text(json.dumps(mirrored.to_json()))  # better figures than the exported model has
    assert evaluation_of(checkpoint, None, StorageOptions()) is None
    assert "flip_tta=true" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"metrics=.*flip_tta=true.*evaluate\.py checkpoint="):
        evaluation_of(checkpoint, str(metrics), StorageOptions())
    own = make_result(subject=make_subject(checkpoint_sha256=checkpoint.sha256, checkpoint="here"))
    metrics.write_text(json.dumps(own.to_json()))
    found = evaluation_of(checkpoint, None, StorageOptions())
    assert found == own
    told = without_locations(found)
    assert told["accuracy"]["value"] == 0.372 and told["split"] == "test" and not {"checkpoint", "root"} & set(told)

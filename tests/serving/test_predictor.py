"""The predictor on a graph small enough to work out by hand: P(count) is the mean red, green and blue, normalised."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys

import numpy
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from stocktake.images.decoding import UndecodableImage
from stocktake.images.statistics import ImageStatistics, TrainingImages
from stocktake.run_folder import sealed
from stocktake.serving.model_folder import MODEL_SEAL, ModelFolderError
from stocktake.serving.predictor import Predictor

CALIBRATION = {"temperature": 1.0, "coverage": 0.9, "threshold": 0.25, "counts": [2, 3, 5], "num_images": 40}


def mean_color_graph() -> bytes:
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axes"], ["colors"], keepdims=0),
        helper.make_node("ReduceSum", ["colors"], ["all"], keepdims=0),
        helper.make_node("Div", ["colors", "all"], ["probabilities"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["height", "width", 3])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [3])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1])
    graph = helper.make_graph(nodes, "mean_color", [pixels], [probabilities], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def folder(tmp_path):
    graph = mean_color_graph()
    model = {
        "format_version": 1,
        "version": "hand-1",
        "counts": CALIBRATION["counts"],
        "calibration": CALIBRATION,
        "sha256": hashlib.sha256(graph).hexdigest(),
    }
    (tmp_path / "model.onnx").write_bytes(graph)
    (tmp_path / "model.json").write_text(json.dumps(model))
    return tmp_path


def color_image(red: int, green: int, blue: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (7, 4), (red, green, blue)).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_answer_worked_out_by_hand(folder):
    predictor = Predictor.open(str(folder), num_threads=1)
    answer = predictor.predict(color_image(100, 20, 80), expected_count=3)
    assert answer.probabilities == pytest.approx({2: 0.5, 3: 0.1, 5: 0.4}, abs=1e-6)
    assert (answer.count, answer.conformal_set, answer.model_version) == (2, [2, 5], "hand-1")
    assert answer.mismatch_score == pytest.approx(0.9, abs=1e-6)
    assert answer.verdict == "The record of 3 is unlikely (10%), recount: most likely 2 items (50%)."
    assert answer.milliseconds > 0


@pytest.mark.parametrize(
    ("expected", "score", "verdict"),
    [
        (2, 0.5, "Agrees with the record of 2: most likely 2 items (50%)."),
        (5, 0.6, "The record of 5 is possible (40%), though 2 items (50%) is likelier."),
        (None, None, "Most likely 2 items (50%); not ruled out: 2 or 5."),
    ],
)
def test_the_verdict_follows_the_record(folder, expected, score, verdict):
    answer = Predictor.open(f"file://{folder}").predict(color_image(100, 20, 80), expected)
    assert (answer.mismatch_score, answer.verdict) == (score and pytest.approx(score, abs=1e-6), verdict)


def test_a_count_that_the_model_does_not_know_is_named(folder):
    predictor = Predictor.open(str(folder))
    with pytest.raises(ValueError, match=r"expected_count=4 .*\[2, 3, 5\]"):
        predictor.predict(color_image(1, 1, 1), expected_count=4)
    with pytest.raises(UndecodableImage, match="empty"):
        predictor.predict(b"")


def piped(path):
    path.unlink()
    os.mkfifo(path)


def change(folder, **values):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.json").unlink(), r"model\.json cannot be read .*no whole model.*export\.py"),
        (lambda folder: (folder / "model.onnx").unlink(), r"model\.onnx cannot be read .*Copy the whole folder"),
        (lambda folder: (folder / "model.json").write_text("[" * 10**5), r"model\.json is damaged .*Export the model"),
        (lambda folder: piped(folder / "model.json"), r"model\.json cannot be read \(it is a pipe"),
        (lambda folder: piped(folder / "model.onnx"), r"model\.onnx cannot be read \(it is a pipe"),
        (lambda folder: (folder / "model.json").write_text('{"format'), r"model\.json is damaged .*Export the model"),
        (lambda folder: (folder / "model.json").write_text("[]"), r"model\.json lacks format_version, version"),
        (lambda folder: (folder / "model.onnx").write_bytes(b"cut"), r"model\.onnx \(3 bytes\) is not the file"),
        (lambda folder: change(folder, format_version=2), r"format 2; this Stocktake reads format 1"),
        (lambda folder: change(folder, counts=[1, 2, 3]), r"counts=\[1, 2, 3\] are not its calibration's"),
        (lambda folder: change(folder, calibration={"temperature": 1.0}), r"the keys .* are missing or unknown"),
    ],
)
def test_a_damaged_folder_names_the_file_and_what_to_type(folder, damage, message):
    damage(folder)
    with pytest.raises(ModelFolderError, match=message):
        Predictor.open(str(folder))


def test_a_turned_bit_in_the_description_is_noticed_and_one_from_before_is_read(folder):
    path = folder / "model.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()), MODEL_SEAL), indent=2))
    written = path.read_bytes()
    assert Predictor.open(str(folder)).calibration.threshold == 0.25
    for text in (b'"threshold": 0.25', b'"temperature": 1.0', b'"hand-1"', b"3,"):
        place = written.index(text) + len(text) - 2  # the last digit but one, or the last letter
        spoilt = written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :]
        path.write_bytes(spoilt)
        with pytest.raises(ModelFolderError, match=r"model\.json (holds other figures than when it|is damaged)"):
            Predictor.open(str(folder))
    change(folder, **{key: value for key, value in json.loads(written).items() if key != MODEL_SEAL})


def test_a_graph_that_cannot_be_run_is_refused(folder):
    (folder / "model.onnx").write_bytes(b"no graph")
    change(folder, sha256=hashlib.sha256(b"no graph").hexdigest())
    with pytest.raises(ModelFolderError, match="cannot be run by ONNX Runtime"):
        Predictor.open(str(folder))


def reading_a_file(tensor):
    """Lets a tensor take its numbers from the working directory's file `secret`."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "secret", "offset": "0", "length": "20"}.items():
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize("spelt", ["as written", "value first", "a longer length"])
@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_a_graph_that_reads_another_file_is_refused(model_folder, tmp_path, monkeypatch, where, spelt):
    (tmp_path / "secret").write_bytes(numpy.arange(5, dtype=numpy.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    model = onnx.load(model_folder / "model.onnx")
    centres = next(tensor for tensor in model.graph.initializer if tensor.name == "centres")
    if where == "constant":
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["centres"], value=centres))
        model.graph.initializer.remove(centres)
        centres = model.graph.node[0].attribute[0].t
    reading_a_file(centres)
    graph = model.SerializeToString()
    key, value = b"\x0a\x08location", b"\x12\x06secret"
    assert key + value in graph
    if spelt == "value first":
        graph = graph.replace(key + value, value + key)
    elif spelt == "a longer length":  # 8 in two bytes, and one character less of the file's name in their place
        (tmp_path / "secret").rename(tmp_path / "secre")
        graph = graph.replace(key + value, b"\x0a\x88\x00location\x12\x05secre")
    copied = tmp_path / "model"
    shutil.copytree(model_folder, copied)
    (copied / "model.onnx").write_bytes(graph)
    change(copied, sha256=hashlib.sha256(graph).hexdigest())
    with pytest.raises(ModelFolderError, match=r"model\.onnx names other files to read its tensors from"):
        Predictor.open(str(copied))


def test_a_graph_in_another_format_is_refused(folder):
    (folder / "model.onnx").write_bytes(b"\x20\0\0\0ORTM" + bytes(100))
    change(folder, sha256=hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest())
    with pytest.raises(ModelFolderError, match=r"cannot be run by ONNX Runtime .*INVALID_PROTOBUF"):
        Predictor.open(str(folder))


def test_a_model_of_drawn_bins_says_of_a_photo_that_it_has_never_seen_one(folder):
    drawn = [ImageStatistics(brightness, 500.0 + brightness, 0.05, 96, 72) for brightness in range(60, 120)]
    change(folder, training_images=TrainingImages.of(drawn, are_drawn=True).to_dict())
    predictor = Predictor.open(str(folder))
    for size in ((7, 4), (1600, 1200)):
        buffer = io.BytesIO()
        Image.new("RGB", size, (200, 180, 220)).save(buffer, "JPEG")
        assert "only ever seen drawn bins" in str(predictor.predict(buffer.getvalue()).warning)
    change(folder, training_images=TrainingImages.of(drawn, are_drawn=False).to_dict())
    assert Predictor.open(str(folder)).predict(color_image(100, 20, 80)).warning is None
    change(folder, training_images={"are_drawn": True})
    with pytest.raises(ModelFolderError, match="training_images is not what this project writes"):
        Predictor.open(str(folder))


def with_counts(folder, counts):
    change(folder, counts=counts, calibration=CALIBRATION | {"counts": counts})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: with_counts(folder, [1, 2, 3, 4]), r"shape \(3,\), and model\.json says counts=\[1, 2, 3, 4\]"),
        (lambda folder: rename(folder, "pixels", "image"), r"does not count a gray image given as pixels"),
        (lambda folder: rename(folder, "probabilities", "logits"), r"does not count a gray image"),
        (lambda folder: rename(folder, "Div", "Mul"), r"gives \[.*\], no probabilities"),
        (lambda folder: change(folder, version=2), r"version=2 is no line of text"),
        (lambda folder: change(folder, version="a\nforged line"), r"version='a\\nforged line' is no line of text"),
        (lambda folder: change(folder, version=""), r"version='' is no line of text"),
    ],
)
def test_a_description_that_does_not_fit_its_graph_is_refused_when_it_is_opened(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ModelFolderError, match=message):
        Predictor.open(str(folder))


def rename(folder, name, other):
    """Has the graph say `other` wherever it says `name`."""
    model = onnx.load_model_from_string((folder / "model.onnx").read_bytes())
    for node in model.graph.node:
        node.op_type = other if node.op_type == name else node.op_type
        for names in (node.input, node.output):
            names[:] = [other if found == name else found for found in names]
    for value in (*model.graph.input, *model.graph.output):
        value.name = other if value.name == name else value.name
    graph = model.SerializeToString()
    (folder / "model.onnx").write_bytes(graph)
    change(folder, sha256=hashlib.sha256(graph).hexdigest())


def test_after_a_large_image_the_memory_is_given_back(folder, monkeypatch):
    predictor, given = Predictor.open(str(folder)), []

    class Session:
        def run(self, outputs, inputs, options):
            given.append(options and options.get_run_config_entry("memory.enable_memory_arena_shrinkage"))
            return [None]

    monkeypatch.setattr(predictor, "session", Session())
    for height in (1, 2_000, 2_001):
        predictor.probabilities(numpy.zeros((height, 2_000, 3), numpy.uint8))
    assert given == [None, None, "cpu:0"]


def test_a_model_once_opened_needs_its_folder_no_more(folder):
    predictor = Predictor.open(str(folder))
    before = predictor.predict(color_image(100, 20, 80)).probabilities
    with (folder / "model.onnx").open("r+b") as file:  # in place: a mapped file would change with it
        file.write(bytes(100))
        file.truncate(100)
    shutil.rmtree(folder)
    assert predictor.predict(color_image(100, 20, 80)).probabilities == before


def test_onnx_runtime_leaves_no_identifier_in_the_home_folder(folder, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    code = "import sys; from stocktake.serving.predictor import Predictor; Predictor.open(sys.argv[1])"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", code, str(folder)]
    subprocess.run(command, env=environment | {"HOME": str(home)}, check=True)
    assert not list(home.rglob("*onnx*"))


def test_it_comes_without_torch_and_without_aws():
    code = (
        "import sys, stocktake.serving.predictor as p; print({'torch', 'boto3', 'pytorch_lightning'} & {*sys.modules})"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"

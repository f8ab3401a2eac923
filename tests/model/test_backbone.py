"""Backbones by name, and weights from everywhere that they can come from, or cannot."""

import pathlib
import pickle

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
from untrained import turned

from stocktake.model.backbone import BackboneError, WeightsError, create_backbone, read_state_dict

NET = "test_convnext"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(1)
    return {key: value.clone() for key, value in timm.create_model(NET).state_dict().items()}  # for 1,000 classes


def test_an_unknown_name_tells_those_near_it():
    with pytest.raises(BackboneError, match=r"model\.backbone='resnet5O' .*resnet50"):
        create_backbone("resnet5O", 5, "none")
    with pytest.raises(BackboneError, match="near it are resnet50"):
        create_backbone("?", 5, "none")


@pytest.mark.parametrize("kind", ["safetensors", "pt", "checkpoint"])
def test_a_file_gives_all_but_the_last_layer(state, tmp_path, kind):
    path = tmp_path / f"weights.{'safetensors' if kind == 'safetensors' else 'pt'}"
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state if kind == "pt" else {"state_dict": state, "epoch": 3}, path)
    for place in (str(path), f"file://{path}"):
        backbone = create_backbone(NET, 5, place, drop_rate=0.25)
        loaded = backbone.state_dict()
        assert loaded["head.fc.weight"].shape[0] == 5
        for key, value in state.items():
            if not key.startswith("head.fc."):
                assert torch.equal(loaded[key], value), key
        assert backbone.drop_rate == 0.25


def test_a_last_layer_of_the_right_shape_is_taken_too(tmp_path):
    own = timm.create_model(NET, num_classes=5).state_dict()
    safetensors.torch.save_file(own, tmp_path / "own.safetensors")
    loaded = create_backbone(NET, 5, str(tmp_path / "own.safetensors")).state_dict()
    assert torch.equal(loaded["head.fc.weight"], own["head.fc.weight"])


def test_the_file_of_another_model_is_refused(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors does not fit the backbone: .*model\.backbone"):
        create_backbone("test_resnet", 5, str(tmp_path / "other.safetensors"))


def test_one_tensor_of_another_shape_is_named(tmp_path, state):
    key = next(key for key in state if key.startswith("stages.1"))
    safetensors.torch.save_file(state | {key: torch.zeros(2)}, tmp_path / "bent.safetensors")
    with pytest.raises(WeightsError, match=f"1 of its .*'{key}'"):
        create_backbone(NET, 5, str(tmp_path / "bent.safetensors"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"model\.weights=.*none\.pt.*Type imagenet, none"):
        create_backbone(NET, 5, str(tmp_path / "none.pt"))


@pytest.mark.parametrize(("name", "content"), [("a.pt", b"?"), ("a.safetensors", b"\xff" * 40), ("a.pt", b"")])
def test_a_file_of_something_else_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} is not a file of weights"):
        read_state_dict(str(tmp_path / name))


def test_bits_that_turned_are_told(tmp_path, state):
    torch.save(state, tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(turned((tmp_path / "a.pt").read_bytes()))
    with pytest.raises(WeightsError, match=r"a\.pt is not a file of weights: a/data/\d+ in it has another checksum"):
        read_state_dict(str(tmp_path / "a.pt"))


def test_a_file_of_one_tensor_is_named(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="holds a Tensor, not a dict of tensors"):
        read_state_dict(str(tmp_path / "a.pt"))


@pytest.mark.parametrize("content", [{"state_dict": [1]}, {"state_dict": "?"}])
def test_a_state_dict_that_is_none_is_told(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="not a dict of tensors"):
        create_backbone(NET, 5, str(tmp_path / "a.pt"))


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_weights_of_a_training_that_diverged_are_refused(tmp_path, state, kind):
    path, first = tmp_path / f"a.{kind}", next(iter(state))
    spoilt = state | {first: torch.full_like(state[first], float("nan"))}
    torch.save(spoilt, path) if kind == "pt" else safetensors.torch.save_file(spoilt, path)
    with pytest.raises(WeightsError, match=rf"model\.weights=\S+ is refused: 1 of its tensors .* first {first}"):
        create_backbone(NET, 5, str(path))


def test_what_stands_beside_the_tensors_is_passed_over(tmp_path, state):
    torch.save(state | {"epoch": 3, 7: 7, next(iter(state)) + ".note": "?"}, tmp_path / "a.pt")
    loaded = create_backbone(NET, 5, str(tmp_path / "a.pt")).state_dict()
    assert loaded.keys() == state.keys()
    differing = [key for key, value in state.items() if not torch.equal(loaded[key], value)]
    assert differing == ["head.fc.weight", "head.fc.bias"]  # made for other classes


class Touches:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize(
    "save",
    # The protocol of torch.save's own files: of others torch warns before it refuses what is in them.
    [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, torch.serialization.DEFAULT_PROTOCOL))],
)
def test_code_in_a_file_is_not_run(tmp_path, save):
    save({"a": Touches(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="not a file of weights"):
        read_state_dict(str(tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("is_offline", [False, True])
def test_the_hub_without_a_network_is_told_in_one_line(is_offline, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", is_offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # between its tries
    with pytest.raises(WeightsError, match=r"ImageNet weights of test_convnext .*model\.weights=none") as caught:
        create_backbone(NET, 5, "imagenet")
    assert "\n" not in str(caught.value)


def test_real_weights_fit(weights):
    loaded = create_backbone("mobilenetv2_100", 5, str(weights)).state_dict()
    for key, value in safetensors.torch.load_file(weights).items():
        assert key.startswith("classifier.") or torch.equal(loaded[key], value), key


def test_a_new_last_layer_starts_undecided(tmp_path):
    torch.manual_seed(0)
    trained = timm.create_model("mobilenetv2_035", num_classes=7)
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "w.safetensors")
    images_BCHW = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        new = create_backbone("mobilenetv2_035", 5, str(tmp_path / "w.safetensors")).eval()(images_BCHW)
        same = create_backbone("mobilenetv2_035", 7, str(tmp_path / "w.safetensors")).eval()(images_BCHW)
        torch.testing.assert_close(new.softmax(1), torch.full((4, 5), 0.2), atol=0.1, rtol=0)
        torch.testing.assert_close(same, trained.eval()(images_BCHW), msg="a last layer that fits is kept")

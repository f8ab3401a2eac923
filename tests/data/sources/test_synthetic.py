import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stocktake.data.sources import synthetic
from stocktake.data.sources.synthetic import MIN_VISIBLE_FRACTION, draw_bin, write_synthetic_source

SIZE_PX = (96, 80)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    write_synthetic_source(folder, num_bins=23, seed=7, counts=(1, 2, 3, 4, 5), size_px=SIZE_PX)
    return folder


def test_same_seed_writes_the_same_bytes(source, tmp_path):
    write_synthetic_source(tmp_path, num_bins=23, seed=7, counts=(1, 2, 3, 4, 5), size_px=SIZE_PX)
    assert digests(tmp_path) == digests(source)


def test_another_seed_draws_other_pictures(source, tmp_path):
    write_synthetic_source(tmp_path, num_bins=23, seed=8, counts=(1, 2, 3, 4, 5), size_px=SIZE_PX)
    first, second = digests(source), digests(tmp_path)
    assert first.keys() == second.keys()
    assert not any(first[name] == second[name] for name in first if name.endswith(".jpg"))


def test_layout_is_the_bucket_s(source):
    listed = json.loads((source / "file_list.json").read_text())
    ids = [f"{i:05d}" for i in range(1, 24)]
    assert {path.name for path in source.iterdir()} == {"bin-images", "metadata", "file_list.json"}
    assert sorted(path.name for path in (source / "bin-images").iterdir()) == [f"{i}.jpg" for i in ids]
    assert sorted(path.name for path in (source / "metadata").iterdir()) == [f"{i}.json" for i in ids]
    assert sorted(name for names in listed.values() for name in names) == [f"data/metadata/{i}.json" for i in ids]
    assert {count: len(names) for count, names in listed.items()} == {"1": 5, "2": 5, "3": 5, "4": 4, "5": 4}


def test_records_follow_the_bucket_s_schema_and_agree_with_the_list(source):
    for count, names in json.loads((source / "file_list.json").read_text()).items():
        for name in names:
            record = json.loads((source / "metadata" / Path(name).name).read_text())
            assert record.keys() == {"BIN_FCSKU_DATA", "EXPECTED_QUANTITY"}
            skus = record["BIN_FCSKU_DATA"]
            assert sum(sku["quantity"] for sku in skus.values()) == record["EXPECTED_QUANTITY"] == int(count)
            for code, sku in skus.items():
                sides = {"height", "length", "width"}
                assert sku.keys() == sides | {"asin", "name", "normalizedName", "quantity", "weight"}
                assert sku["asin"] == code
                assert all(sku[side]["unit"] == "IN" for side in sides)
                assert all(sku[side]["value"] > 0 for side in sides)
                assert sku["weight"]["unit"] == "pounds"
                assert sku["weight"]["value"] > 0


def test_pictures_are_rgb_jpegs_of_the_size_asked_for(source):
    with Image.open(source / "bin-images" / "00001.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", SIZE_PX)


def test_an_interrupted_drawing_leaves_no_list_and_is_done_again(source, tmp_path, monkeypatch):
    write_synthetic_source(tmp_path, num_bins=2, seed=1, size_px=SIZE_PX)

    def interrupted(image_id, *rest):
        if image_id == "00009":
            raise KeyboardInterrupt
        return draw_bin(image_id, *rest)

    monkeypatch.setattr(synthetic, "draw_bin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic_source(tmp_path, num_bins=23, seed=7, size_px=SIZE_PX)
    assert not (tmp_path / "file_list.json").exists()

    monkeypatch.undo()
    write_synthetic_source(tmp_path, num_bins=23, seed=7, size_px=SIZE_PX)
    assert digests(tmp_path) == digests(source)


def test_every_item_stays_visible():
    for i in range(100):
        count = 1 + i % 5
        scene = synthetic._draw_scene(f"{i:05d}", count, seed=3, size_px=SIZE_PX)
        assert len(scene.products) == len(scene.visible_fractions) == count
        assert min(scene.visible_fractions) >= MIN_VISIBLE_FRACTION


def test_visible_fractions_are_those_of_the_picture(monkeypatch):
    """Painted in flat colors and without a camera, each item shows as many pixels as its fraction says."""
    flat = iter([(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    areas, seen = [], []
    draw_product = synthetic.draw_product

    def silhouette(*arguments):
        piece = draw_product(*arguments)
        solid = Image.new("RGBA", piece.size, (255, 255, 255, 0))
        solid.putalpha(piece.getchannel("A").point(lambda alpha: 255 * (alpha > 128)))
        return solid

    def paste_flat(canvas, piece, left, top):
        color = next(flat)
        areas.append(np.count_nonzero(np.asarray(piece)[..., 3]))
        canvas.paste(color, (left, top), piece.getchannel("A"))

    def no_camera(image, rng):
        return image

    monkeypatch.setattr(synthetic, "SUPERSAMPLING", 1)
    monkeypatch.setattr(synthetic, "draw_product", silhouette)
    monkeypatch.setattr(synthetic, "_paste_with_shadow", paste_flat)
    monkeypatch.setattr(synthetic, "_photograph", no_camera)
    scene = synthetic._draw_scene("00001", 3, seed=0, size_px=(256, 192))
    pixels = np.asarray(scene.image)
    for color in [(255, 0, 0), (0, 255, 0), (0, 0, 255)]:
        seen.append(np.count_nonzero((pixels == color).all(axis=-1)))
    assert scene.visible_fractions == pytest.approx(np.array(seen) / areas, abs=1e-9)


def test_a_bin_looks_much_the_same_at_another_size():
    small = draw_bin("00042", 4, seed=0, size_px=(128, 96))[0]
    large = draw_bin("00042", 4, seed=0, size_px=(384, 288))[0].resize(small.size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(small, float) - np.asarray(large, float)).mean()
    unrelated = np.asarray(draw_bin("00043", 4, seed=0, size_px=(128, 96))[0], float)
    assert difference < 0.5 * np.abs(np.asarray(small, float) - unrelated).mean()


def test_an_empty_bin_has_an_empty_record():
    image, record = draw_bin("00001", 0, seed=0, size_px=SIZE_PX)
    assert image.size == SIZE_PX
    assert record == {"BIN_FCSKU_DATA": {}, "EXPECTED_QUANTITY": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_bins": 0}, "num_bins=0"),
        ({"counts": ()}, "counts is empty"),
        ({"counts": (1, 99)}, "count=99"),
        ({"size_px": (8, 8)}, r"size_px=\[8, 8\]"),
    ],
)
def test_values_out_of_range_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_synthetic_source(tmp_path, **{"num_bins": 4, "size_px": SIZE_PX, **arguments})


@pytest.mark.slow
def test_a_linear_model_cannot_count_the_items():
    """On 32 x 32 gray pixels: what the demo's network has to beat."""
    counts = np.resize([1, 2, 3, 4, 5], 700)
    pictures = [draw_bin(f"{i:05d}", int(count), 0, SIZE_PX)[0] for i, count in enumerate(counts)]
    gray = np.stack([np.asarray(picture.convert("L").resize((32, 32))).ravel() for picture in pictures])
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(gray[:500], counts[:500])
    assert linear.score(gray[500:], counts[500:]) < 0.45

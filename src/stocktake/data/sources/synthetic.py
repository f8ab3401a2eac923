"""Draws warehouse bins with a known count, in the layout of the source bucket.

Items stand on the floor of a fabric bin, from the back to the front, each placed so that it stays visible, and are
photographed through the elastic net. Lengths are fractions of the image's width, so a bin holds the same
products at every size and mostly in the same places (rounding can turn an item's first place into a retry).
"""

import hashlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rich.console import Console
from rich.progress import track

from stocktake.data.sources.synthetic_products import COLORS, Product, draw_product, invent_products

SUPERSAMPLING = 2
MIN_VISIBLE_FRACTION = 0.75
MAX_COUNT = 10
WIDTH_INCHES = 14  # of a bin; gives the products in the records their size
LABEL_COLORS = ("navy", "red", "black", "pink", "orange", "blue")


def draw_bin(image_id: str, count: int, seed: int, size_px: tuple[int, int]) -> tuple[Image.Image, dict]:
    """Draws one bin: the RGB image, (width, height) pixels, and its record in the bucket's schema.

    A pure function of its arguments.

    Raises:
        ValueError: The count or the size is out of range.
    """
    scene = _draw_scene(image_id, count, seed, size_px)
    return scene.image, _record(scene.products, image_id, seed)


def write_synthetic_source(
    folder: pathlib.Path,
    num_bins: int,
    seed: int = 0,
    counts: Sequence[int] = (1, 2, 3, 4, 5),
    size_px: tuple[int, int] = (144, 112),
) -> None:
    """Writes a source like the public bucket: `bin-images/`, `metadata/` and `file_list.json`.

    The same arguments write the same bytes. The list comes last, so a folder with a list is whole, and an interrupted
    drawing is simply done again.

    Raises:
        ValueError: A count, the number of bins or the size is out of range.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins={num_bins}: a source holds at least one bin, e.g. num_bins=2000")
    if not counts:
        raise ValueError("counts is empty: name the counts to draw, e.g. counts=[1,2,3,4,5]")
    images, metadata, list_path = folder / "bin-images", folder / "metadata", folder / "file_list.json"
    images.mkdir(parents=True, exist_ok=True)
    metadata.mkdir(exist_ok=True)
    list_path.unlink(missing_ok=True)

    count_of_bin = np.random.default_rng(seed).permutation(np.resize(counts, num_bins))
    listed: dict[str, list[str]] = {str(count): [] for count in sorted(set(counts))}
    console = Console(stderr=True)
    for i, count in enumerate(
        track(count_of_bin, f"Drawing {num_bins} bins", console=console, disable=not console.is_terminal),
        start=1,
    ):
        image_id = f"{i:05d}"
        image, record = draw_bin(image_id, int(count), seed, size_px)
        image.save(images / f"{image_id}.jpg", quality=92)
        (metadata / f"{image_id}.json").write_text(json.dumps(record, indent=4))
        listed[str(count)].append(f"data/metadata/{image_id}.json")

    unfinished = list_path.with_suffix(".partial")
    unfinished.write_text(json.dumps(listed))
    os.replace(unfinished, list_path)


@dataclass(frozen=True)
class Scene:
    image: Image.Image
    products: list[Product]
    visible_fractions: list[float]  # of each item, what no other item, thread of the net or edge of the bin hides


def _draw_scene(image_id: str, count: int, seed: int, size_px: tuple[int, int]) -> Scene:
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"count={count}: a synthetic bin holds 0 to {MAX_COUNT} items")
    if min(size_px) < 32:
        raise ValueError(f"size_px={list(size_px)}: at least [32, 32], or nothing can be made out")
    digest = hashlib.blake2b(f"{seed}/{image_id}".encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest))
    width, height = (SUPERSAMPLING * length for length in size_px)
    products = invent_products(count, rng)
    canvas = _draw_empty_bin(width, height, rng)
    front = _draw_front(width, height, rng)
    visible_fractions = _place_items(canvas, products, np.asarray(front)[..., 3] > 128, rng)
    canvas.paste(front, mask=front)
    image = _photograph(canvas.reduce(SUPERSAMPLING), rng)
    return Scene(image, products, visible_fractions)


def _draw_empty_bin(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """The fabric walls and the floor, seen from the front."""
    fabric = np.array((206, 172, 92)) * rng.uniform(0.8, 1.1) + rng.normal(0, 8, 3)
    canvas = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(canvas)
    left, right = width * rng.uniform(0.04, 0.14), width * rng.uniform(0.86, 0.96)
    top, floor = height * rng.uniform(0.0, 0.12), height * rng.uniform(0.62, 0.72)

    def fill(*corners: tuple[float, float], shade: float, graying: float = 0.0) -> None:
        color = shade * ((1 - graying) * fabric + graying * np.array((150, 138, 122)))
        draw.polygon(corners, fill=tuple(color.clip(0, 255).astype(int).tolist()))

    fill((0, 0), (width, 0), (right, top), (left, top), shade=1.05)
    fill((0, 0), (left, top), (left, floor), (0, height), shade=0.92)
    fill((width, 0), (right, top), (right, floor), (width, height), shade=1.02)
    fill((left, top), (right, top), (right, floor), (left, floor), shade=0.8, graying=0.2)
    fill((left, floor), (right, floor), (width, height), (0, height), shade=0.82, graying=rng.uniform(0.4, 0.9))

    coarse = rng.normal(0, 6, (7, 9)).astype(np.float32)
    creases = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    weave = 5 * np.outer(np.sin(np.arange(height) * 2.1), np.sin(np.arange(width) * 2.1))
    return Image.fromarray((np.asarray(canvas) + (creases + weave)[..., None]).clip(0, 255).astype(np.uint8))


def _draw_front(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """What hangs before the items (RGBA): two bands of elastic threads, and the bin's lips with their labels."""
    front = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(front)
    thread = (*rng.integers(168, 206, 1).repeat(3).tolist(), 150)
    for center in (rng.uniform(0.2, 0.34), rng.uniform(0.6, 0.76)):
        spread = rng.uniform(0.08, 0.14)
        for offset in np.linspace(-spread, spread, rng.integers(6, 10)):
            y_left, y_right = height * (center + offset * rng.uniform(0.9, 1.1, 2))
            draw.line((0, y_left, width, y_right), fill=thread, width=max(1, round(0.005 * width)))

    lip = tuple((np.array((226, 198, 118)) * rng.uniform(0.9, 1.1)).astype(int).tolist())
    sag, top, bottom = height * rng.uniform(0, 0.04), 0.05 * height, height * rng.uniform(0.9, 0.94)
    draw.rectangle((0, 0, width, top), fill=lip)
    draw.ellipse((-0.2 * width, bottom, 1.2 * width, bottom + 0.6 * height + sag), fill=lip)
    for label_top in (top - 0.09 * height, bottom + 0.01 * height):
        _draw_label(draw, width * rng.uniform(0.3, 0.6), label_top, 0.2 * width, rng)
    return front


def _draw_label(draw: ImageDraw.ImageDraw, left: float, top: float, width: float, rng: np.random.Generator) -> None:
    """The bin's own label: a colored plate with its name, and a QR-like pattern on white."""
    height, plate = 0.42 * width, 0.6 * width
    draw.rectangle((left, top, left + width, top + height), fill=(236, 234, 228))
    draw.rectangle((left, top, left + plate, top + height), fill=COLORS[str(rng.choice(LABEL_COLORS))])
    name = f"{rng.integers(1, 5)}{'ABCDEFGHIJ'[rng.integers(10)]}"
    font = ImageFont.load_default(size=max(6, round(0.85 * height)))
    draw.text((left + plate / 2, top + height / 2), name, fill=(240, 240, 240), font=font, anchor="mm")
    cell = 0.85 * height / 9
    for row, column in np.argwhere(rng.random((9, 9)) < 0.5):
        x, y = left + plate + 0.1 * height + column * cell, top + 0.08 * height + row * cell
        draw.rectangle((x, y, x + cell, y + cell), fill=(36, 36, 40))


def _place_items(
    canvas: Image.Image, products: Sequence[Product], hidden: np.ndarray, rng: np.random.Generator
) -> list[float]:
    """Draws the items into the bin from the back to the front; returns the visible fraction of each.

    A place that would hide too much of any item, or of this one, is drawn again; an item that finds none shrinks.
    """
    width, height = canvas.size
    owner = np.full((height, width), -1)  # which item is seen at a pixel
    areas, seen, fractions = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    for i, (product, base) in enumerate(zip(products, np.sort(rng.uniform(0.72, 0.93, len(products))), strict=True)):
        scale = 1.0
        while True:
            angle = rng.normal(0, 6) if rng.random() < 0.75 else rng.choice([-1, 1]) * rng.uniform(15, 95)
            piece = draw_product(product, angle, scale * width)
            left = int(rng.uniform(0.03 * width, max(0.03 * width + 1, 0.97 * width - piece.width)))
            top = max(0, int(base * height) - piece.height)
            whole = np.asarray(piece)[..., 3] > 128
            inside = whole[: height - top, : width - left]
            window = np.s_[top : top + inside.shape[0], left : left + inside.shape[1]]
            shown = inside & ~hidden[window]
            covered = np.bincount(owner[window][shown] + 1, minlength=i + 1)[1:]
            tried = np.append(seen - covered, np.count_nonzero(shown))
            fractions = tried / np.append(areas, np.count_nonzero(whole))
            if fractions.min() >= MIN_VISIBLE_FRACTION:
                break
            scale *= 0.97
        owner[window][inside], seen = i, tried
        areas = np.append(areas, np.count_nonzero(inside))
        _paste_with_shadow(canvas, piece, left, top)
    return fractions.tolist()


def _paste_with_shadow(canvas: Image.Image, piece: Image.Image, left: int, top: int) -> None:
    reach = canvas.width // 24
    shadow = Image.new("L", (piece.width + 2 * reach, piece.height + 2 * reach))
    shadow.paste(piece.getchannel("A").point(lambda alpha: alpha * 0.55), (reach, reach))
    shadow = shadow.filter(ImageFilter.BoxBlur(reach / 2))
    canvas.paste((24, 18, 10), (left - reach, top - reach), shadow)
    canvas.paste(piece, (left, top), piece)


def _photograph(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Uneven light, vignette, sometimes motion blur, and sensor noise."""
    pixels = np.asarray(image, np.float32)
    height, width = pixels.shape[:2]
    x, y = (
        np.linspace(-1, 1, width, dtype=np.float32)[None, :],
        np.linspace(-1, 1, height, dtype=np.float32)[:, None],
    )
    slope_x, slope_y = rng.uniform(-0.2, 0.2, 2)
    light = rng.uniform(0.6, 1.15) * (1 + slope_x * x + slope_y * y) * (1 - 0.12 * (x**2 + y**2))
    pixels = pixels * (light[..., None] * rng.uniform((0.97, 0.94, 0.84), (1.03, 1.0, 1.0))).astype(np.float32)
    if rng.random() < 0.15:
        num_steps = 1 + round(width * rng.uniform(0.008, 0.018))
        axis = int(rng.integers(2))
        pixels = np.mean([np.roll(pixels, step, axis) for step in range(num_steps)], axis=0)
    pixels = pixels + rng.normal(0, rng.uniform(1, 5), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _record(products: Sequence[Product], image_id: str, seed: int) -> dict:
    """The bucket's record of a bin: every product with its quantity, and the sum of the quantities."""
    skus = {}
    for product, quantity in Counter(products).items():
        code = hashlib.blake2b(f"{seed}/{image_id}/{product.look}".encode(), digest_size=5).hexdigest()[:9].upper()
        name = f"Synthetic {product.kind}, {product.color} and {product.accent}"
        width, height = (round(length * WIDTH_INCHES, 2) for length in (product.width, product.height))
        sizes = {"height": height, "length": width, "width": round(min(width, height) / 2, 2)}
        skus[f"S{code}"] = {
            "asin": f"S{code}",
            **{side: {"unit": "IN", "value": value} for side, value in sizes.items()},
            "name": name,
            "normalizedName": name,
            "quantity": quantity,
            "weight": {"unit": "pounds", "value": round(0.02 * width * height, 3)},
        }
    return {"BIN_FCSKU_DATA": skus, "EXPECTED_QUANTITY": sum(sku["quantity"] for sku in skus.values())}

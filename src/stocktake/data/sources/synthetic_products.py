"""The products that synthetic bins hold: boxes, books, bottles, cans, tubes and pouches with an invented print."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
COLORS: dict[str, Color] = {
    "brown": (172, 128, 86),
    "white": (228, 226, 220),
    "black": (46, 44, 48),
    "navy": (38, 54, 108),
    "blue": (52, 116, 190),
    "teal": (36, 144, 148),
    "green": (66, 138, 72),
    "red": (190, 44, 46),
    "orange": (226, 116, 40),
    "pink": (220, 122, 158),
    "purple": (112, 68, 146),
    "silver": (156, 160, 168),
}


@dataclass(frozen=True)
class Product:
    """Something a warehouse sells; lengths are fractions of the image's width."""

    kind: str
    color: str
    accent: str
    width: float
    height: float
    look: int  # seeds the print, so that two pieces of one product look alike


def invent_products(count: int, rng: np.random.Generator) -> list[Product]:
    """One product per item; an item is sometimes one more piece of the product before it."""
    products: list[Product] = []
    for _ in range(count):
        if products and rng.random() < 0.25:
            products.append(products[-1])
            continue
        kind = str(rng.choice(list(KINDS)))
        color, accent = map(str, rng.choice(list(COLORS), size=2, replace=False))
        aspect, side = rng.uniform(*KINDS[kind].aspect), rng.uniform(0.18, 0.32 if count > 2 else 0.38)
        width, height = float(side * aspect**0.5), float(side / aspect**0.5)
        products.append(Product(kind, color, accent, width, height, int(rng.integers(2**31))))
    return products


def draw_product(product: Product, angle_degrees: float, frame_width_px: float) -> Image.Image:
    """Draws one piece, turned, on a transparent ground (RGBA), for an image `frame_width_px` wide."""
    width, height = (max(8, round(length * frame_width_px)) for length in (product.width, product.height))
    kind, color, accent = KINDS[product.kind], COLORS[product.color], COLORS[product.accent]
    piece = Image.new("RGBA", (width, height))
    draw, rng = ImageDraw.Draw(piece), np.random.default_rng(product.look)
    kind.draw(draw, width, height, color, accent, rng)
    _stick_barcode(draw, width, height, min(0.09 * frame_width_px, 0.85 * width), rng)
    across = np.linspace(-1, 1, width)[:, None]
    light = 1.15 - 0.7 * (across + 0.25) ** 2 if kind.is_round else 1.04 - 0.12 * across
    pixels = np.array(piece, np.float32)
    pixels[..., :3] *= light
    piece = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return piece.rotate(angle_degrees, Image.Resampling.BILINEAR, expand=True)


def _shade(color: Color, factor: float) -> Color:
    red, green, blue = (min(255, int(channel * factor)) for channel in color)
    return red, green, blue


def _draw_print(draw, left, top, right, bottom, accent, rng):
    """A band and lines of text."""
    width, height = right - left, bottom - top
    band = top + height * rng.uniform(0.08, 0.4)
    draw.rectangle((left, band, right, band + height * rng.uniform(0.12, 0.25)), fill=accent)
    for line in 0.66 + 0.09 * np.arange(rng.integers(1, 4)):
        line_top, line_right = top + line * height, left + rng.uniform(0.45, 0.85) * width
        draw.rectangle((left + 0.12 * width, line_top, line_right, line_top + 0.03 * height), fill=_shade(accent, 0.5))


def _stick_barcode(draw, width, height, sticker_width, rng):
    """The warehouse's own sticker, of one size on every product."""
    sticker_height = 0.75 * sticker_width
    left = rng.uniform(0.05, 0.75) * max(0, width - sticker_width)
    top = height * rng.uniform(0.4, 0.9) - sticker_height
    draw.rectangle((left, top, left + sticker_width, top + sticker_height), fill=(246, 245, 240))
    for bar in left + sticker_width * np.linspace(0.15, 0.85, 6):
        bar_width = max(1, round(0.06 * sticker_width))
        draw.line(
            (bar, top + 0.2 * sticker_height, bar, top + 0.8 * sticker_height),
            fill=(28, 28, 30),
            width=bar_width,
        )


def _draw_box(draw, width, height, color, accent, rng):
    right, top = width * (1 - rng.uniform(0.1, 0.22)), height * rng.uniform(0.08, 0.18)
    draw.polygon([(0, top), (width - right, 0), (width, 0), (right, top)], fill=_shade(color, 1.25))
    draw.polygon([(right, top), (width, 0), (width, height - top), (right, height)], fill=_shade(color, 0.6))
    draw.rectangle((0, top, right, height), fill=color)
    _draw_print(draw, 0, top, int(right), height, accent, rng)


def _draw_book(draw, width, height, color, accent, rng):
    draw.rectangle((0, 0, width, height), fill=(222, 212, 186))
    for x in np.linspace(0.92 * width, width, 3):
        draw.line((x, 0, x, height), fill=(176, 164, 136))
    draw.rectangle((0, 0, 0.9 * width, height), fill=color)
    _draw_print(draw, 0, 0, int(0.9 * width), height, accent, rng)
    draw.rectangle((0, 0, 0.1 * width, height), fill=_shade(color, 0.7))


def _draw_bottle(draw, width, height, color, accent, rng):
    shoulder, neck = height * rng.uniform(0.22, 0.3), width * rng.uniform(0.24, 0.34)
    draw.rectangle((1.2 * neck, 0.5 * shoulder, width - 1.2 * neck, shoulder), fill=color)
    draw.rounded_rectangle((0, 0.85 * shoulder, width, height), radius=0.28 * width, fill=color)
    draw.rounded_rectangle((neck, 0, width - neck, 0.6 * shoulder), radius=0.06 * width, fill=accent)
    draw.rectangle((0, 0.46 * height, width, 0.84 * height), fill=_shade(color, 1.5))
    _draw_print(draw, 0, 0.46 * height, width, 0.84 * height, accent, rng)


def _draw_can(draw, width, height, color, accent, rng):
    rim = 0.15 * width
    draw.ellipse((0, height - 2 * rim, width, height), fill=color)
    draw.rectangle((0, rim, width, height - rim), fill=color)
    _draw_print(draw, 0, 2 * rim, width, height - rim, accent, rng)
    draw.ellipse((0, 0, width, 2 * rim), fill=(206, 206, 208))
    draw.ellipse((0.1 * width, 0.4 * rim, 0.9 * width, 1.6 * rim), fill=(150, 150, 154))


def _draw_tube(draw, width, height, color, accent, rng):
    draw.rectangle((0, 0, width, height), fill=color)
    _draw_print(draw, 0, 0.1 * height, width, 0.9 * height, accent, rng)
    for top in (0, 0.9 * height):
        draw.rectangle((0, top, width, top + 0.1 * height), fill=_shade(accent, 0.8))


def _draw_pouch(draw, width, height, color, accent, rng):
    along, wavy = np.linspace(0, 1, 9), 0.05 * rng.random((4, 9))
    x = np.concatenate([along, 1 - wavy[0], 1 - along, wavy[1]])
    y = np.concatenate([wavy[2], along, 1 - wavy[3], 1 - along])
    draw.polygon(list(zip(x * width, y * height, strict=True)), fill=color)
    _draw_print(draw, 0.15 * width, 0.25 * height, 0.85 * width, 0.9 * height, accent, rng)
    draw.rectangle((0.05 * width, 0.06 * height, 0.95 * width, 0.14 * height), fill=_shade(color, 1.3))
    for x, y, lean in rng.uniform((0.1, 0.1, -0.2), (0.9, 0.6, 0.2), size=(5, 3)):
        crease = (x * width, y * height, np.clip(x + lean, 0.1, 0.9) * width, (y + 0.25) * height)
        draw.line(crease, fill=_shade(color, 1.5), width=max(1, width // 30))


@dataclass(frozen=True)
class Kind:
    """How products of one kind look."""

    draw: Callable[..., None]
    aspect: tuple[float, float]  # smallest and largest width / height
    is_round: bool


KINDS = {
    "box": Kind(_draw_box, (0.6, 1.7), False),
    "book": Kind(_draw_book, (0.62, 0.85), False),
    "bottle": Kind(_draw_bottle, (0.38, 0.52), True),
    "can": Kind(_draw_can, (0.65, 0.95), True),
    "tube": Kind(_draw_tube, (0.24, 0.34), True),
    "pouch": Kind(_draw_pouch, (0.7, 1.2), False),
}

"""Pictures for those who brought none: varied, a few megabytes each, made in seconds."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageOps

COUNT: Final = 48
_MEGAPIXELS: Final = (1.2, 2.0, 3.1, 4.2, 5.0)
_SHAPES: Final = ((4, 3), (3, 2), (3, 4), (16, 9), (1, 1), (2, 3))
# Suffix, options, and the most megapixels that keep the file below 20 MB.
_FORMATS: Final[tuple[tuple[str, dict[str, Any], float], ...]] = (
    ("jpg", {"quality": 95, "subsampling": 0}, 6.0),
    ("png", {"compress_level": 1}, 2.5),
    ("jpg", {"quality": 97, "subsampling": 0}, 6.0),
    ("bmp", {}, 6.0),
    ("tiff", {}, 4.5),
)


def render(number: int, folder: Path) -> Path:
    """Write picture ``number`` (the same for the same number) into ``folder``; return its path."""
    chance = random.Random(number)  # noqa: S311 - a picture is no secret
    suffix, options, limit = _FORMATS[number % len(_FORMATS)]
    megapixels = min(_MEGAPIXELS[number % 4 + number % 2], limit)
    wide, high = _SHAPES[number % len(_SHAPES)]
    unit = (megapixels * 1e6 / (wide * high)) ** 0.5
    size = int(wide * unit), int(high * unit)
    image = _grainy(_MOTIFS[number % len(_MOTIFS)](size, chance), chance)
    path = folder / f"picture-{number:02}.{suffix}"
    image.save(path, **options)
    return path


def _sky(size: tuple[int, int], chance: random.Random) -> Image.Image:
    ramp = Image.linear_gradient("L").resize(size)
    return ImageOps.colorize(ramp, _color(chance), _color(chance), mid=_color(chance))


def _sun(size: tuple[int, int], chance: random.Random) -> Image.Image:
    disc = Image.radial_gradient("L").resize(size)
    return ImageOps.colorize(disc, _color(chance), _color(chance))


def _balloons(size: tuple[int, int], chance: random.Random) -> Image.Image:
    image = _sky(size, chance)
    draw = ImageDraw.Draw(image)
    for _ in range(chance.randint(12, 30)):
        x, y = chance.randrange(size[0]), chance.randrange(size[1])
        r = chance.randint(min(size) // 40, min(size) // 6)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_color(chance), outline=_color(chance))
    return image


def _town(size: tuple[int, int], chance: random.Random) -> Image.Image:
    image = _sun(size, chance)
    draw = ImageDraw.Draw(image)
    x = 0
    while x < size[0]:
        width = chance.randint(size[0] // 30, size[0] // 8)
        top = chance.randint(size[1] // 4, size[1] * 3 // 4)
        draw.rectangle((x, top, x + width, size[1]), fill=_color(chance))
        x += width
    return image


_MOTIFS: Final[tuple[Callable[[tuple[int, int], random.Random], Image.Image], ...]] = (
    _balloons,
    _town,
    _sun,
    _balloons,
    _sky,
    _town,
    _balloons,
)


def _grainy(image: Image.Image, chance: random.Random) -> Image.Image:
    # Grain is what makes photographs big: without it a gradient packs into a few kilobytes.
    noise = chance.randbytes(image.width * image.height)
    grain = Image.frombytes("L", image.size, noise)
    return Image.blend(image, Image.merge("RGB", (grain, grain.rotate(180), grain)), 0.25)


def _color(chance: random.Random) -> tuple[int, int, int]:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)

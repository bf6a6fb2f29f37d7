"""What a file stores, and the two things that come of it: a picture to look at, or a mask."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsad.data.decoding.rules import Rule
from zsad.data.reading import Reading

Values = NDArray[Any]  # [H, W] or [H, W, C], as stored in the file

DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow modes with more than eight bits a channel
_MODES = {"P": Rule.PALETTE, "PA": Rule.PALETTE, "1": Rule.BINARY, "CMYK": Rule.CMYK}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF's number of the orientation


class Stored(NamedTuple):
    """The first frame of a file, before it is set upright, scaled to eight bits and made RGB."""

    pixels: Image.Image | Values  # an image of eight bits a channel, or values of any depth
    rules: tuple[Rule, ...] = ()  # applied so far
    orientation: int = 1  # EXIF's number, to be applied
    bits: int = 0  # depth of the values where the format tells it, else 0
    alpha: str = ""  # what the last channel of the values is: "A" alpha, "a" alpha by which the others are multiplied
    inverted: bool = False  # whether 0 is white in the file; an image has been turned to 0 = black already


def shown(stored: Stored, reading: Reading) -> tuple[Image.Image, tuple[Rule, ...]]:
    """The picture, RGB and upright, and all rules that were applied."""
    image, rules = _eight_bits(stored, reading.bits)
    if image.mode in _MODES:
        rules = (*rules, _MODES[image.mode])
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            image = Image.alpha_composite(Image.new("RGBA", image.size, reading.background), image)
            rules = (*rules, Rule.ALPHA)
    image = image if image.mode == "RGB" else image.convert("RGB")
    return _upright(image, stored.orientation), (*stored.rules, *rules)


def marked(stored: Stored, above: float) -> NDArray[np.bool_]:
    """[H, W], upright: where a pixel that can be seen has a channel that is not 0, or above a limit other than 0."""
    pixels, alpha = stored.pixels, bool(stored.alpha)
    if isinstance(pixels, Image.Image):
        alpha = pixels.has_transparency_data
        pixels = np.asarray(pixels.convert("RGBA" if alpha else "L" if pixels.mode in ("1", "L") else "RGB"))
        pixels = 255 - pixels if stored.inverted else pixels  # a mask is what is stored
    channels = [pixels[..., i] for i in range(pixels.shape[-1])] if pixels.ndim == 3 else [pixels]
    seen = channels.pop() > 0 if alpha else True
    hits = [channel > above if above else np.nan_to_num(channel) != 0 for channel in channels]
    mask: NDArray[np.bool_] = np.logical_or.reduce(hits) & seen
    return np.array(_upright(Image.fromarray(mask), stored.orientation)) if stored.orientation > 1 else mask


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _eight_bits(stored: Stored, told: int) -> tuple[Image.Image, tuple[Rule, ...]]:
    """An image of eight bits a channel, and the rules that made it one; `told` is a depth that a person knows of."""
    if isinstance(stored.pixels, Image.Image):
        return stored.pixels, ()
    values, rules = stored.pixels, list[Rule]()
    if values.ndim == 3 and not stored.alpha and values.shape[-1] != 3:
        values = values[..., :3] if values.shape[-1] > 3 else values[..., 0]
        rules.append(Rule.CHANNELS)
    pixels, scaled = _scaled(values, values[..., :-1] if stored.alpha else values, stored.bits, told)
    if stored.inverted:
        pixels, scaled = 255 - pixels, (*scaled, Rule.INVERTED)
    return _image(pixels, stored.alpha), (*rules, *scaled)


def _scaled(values: Values, seen: Values, known: int, told: int) -> tuple[NDArray[np.uint8], tuple[Rule, ...]]:
    """Values as 0 to 255, by a depth that the format tells, or a person, or those `seen`, which are not alpha."""
    if values.dtype == np.uint8:
        return values, ()
    if values.dtype.kind not in "iu" or values.itemsize == 1 or values.min() < 0 or values.max() > 65535:
        return _spanned(values), (Rule.SPAN,)
    bits = known or told or (12 if seen.max() <= 4095 else 16)
    if bits == 16 and values.ndim == 3:
        return (values >> 8).astype(np.uint8), (Rule.DEEP_COLOUR,)
    top = 2**bits - 1
    table = np.rint(np.arange(65536).clip(max=top) * (255 / top)).astype(np.uint8)
    return table[values], (Rule.TOLD_BITS if told and not known else Rule.DEEP if bits == 16 else Rule.TWELVE,)


def _spanned(values: Values) -> NDArray[np.uint8]:
    """The smallest finite value as 0, the largest as 255."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    unit = (np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    return np.rint(255 * unit).astype(np.uint8)


def _image(pixels: NDArray[np.uint8], alpha: str) -> Image.Image:
    """[H, W] or [H, W, C] as an image; the last channel may be alpha, by which the others may be multiplied."""
    pixels = np.ascontiguousarray(pixels)
    if not alpha:
        return Image.fromarray(pixels)
    mode = ("L" if pixels.shape[-1] == 2 else "RGB") + alpha
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes()).convert(mode.upper())

"""One cell -> one decoded picture of the asked mode and size, safely and without decoding more than is needed."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from polymodal.core.errors import BadCell
from polymodal.modalities.damage import DAMAGE, refusing
from polymodal.modalities.image import depth
from polymodal.modalities.image.depth import Span

Resize = Literal["squash", "crop", "pad"]
Denoise = Literal["none", "median", "gaussian"]
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")  # told by their first bytes
FILTERS = {"median": ImageFilter.MedianFilter(3), "gaussian": ImageFilter.GaussianBlur(1.0)}
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the EXIF orientation
LYING = (5, 6, 7, 8)  # stored with width and height exchanged
ORIENTATION = 0x0112


def open_picture(cell: object, max_pixels: int, span: Span = "full") -> Image.Image:
    """A picture whose header is read and whose size is checked, but which is not yet decoded. Raises BadCell."""
    if isinstance(cell, bytes):
        if not cell:
            raise BadCell("an empty file")
        with refusing("a damaged picture"):
            picture: Image.Image = Image.open(BytesIO(cell), formats=FORMATS)
    elif isinstance(cell, Image.Image):
        picture = cell
    elif isinstance(cell, np.ndarray):
        picture = _from_array(cell, max_pixels, span)
    else:
        raise BadCell(f"a picture is a file, a PIL picture or an array, not {type(cell).__name__}")
    _check_size(*picture.size, max_pixels)
    return picture


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadCell(f"{width} x {height} pixels, more than max_pixels {max_pixels}")
    if not width * height:
        raise BadCell(f"{width} x {height} pixels")


def _from_array(array: np.ndarray, max_pixels: int, span: Span) -> Image.Image:
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if flat.ndim not in (2, 3) or (flat.ndim == 3 and flat.shape[2] not in (3, 4)):
        raise BadCell(f"an array of shape {list(array.shape)}; it must be [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]")
    _check_size(flat.shape[1], flat.shape[0], max_pixels)
    if span != "full" and flat.shape[2:] == (4,):
        raise BadCell("an array with an alpha channel needs range: full")
    return Image.fromarray(np.ascontiguousarray(depth.to_bytes(flat, span)))


def decode(
    cell: object, size: tuple[int, int], channels: int, resize: Resize, max_pixels: int, denoise: Denoise = "none",
    span: Span = "full",
) -> Image.Image:  # fmt: skip
    """The picture of a cell, upright, in mode L or RGB (`channels` 1 or 3), of `size` (height, width).

    `span` is the range of stored values that becomes 0 to 255, see `depth.to_bytes`. A JPEG is decoded at the smallest
    of its own scales that is not below `size`. Raises BadCell.
    """
    picture = open_picture(cell, max_pixels, span)
    with refusing("a truncated or damaged picture"):
        turn = _orientation(picture)
        aim = (size[0], size[1]) if turn in LYING else (size[1], size[0])  # (width, height) as stored
        if isinstance(cell, bytes):
            picture.draft("L" if channels == 1 else None, aim)  # in place: never on a picture that is the caller's
        span = "full" if isinstance(cell, np.ndarray) else span  # an array's pixels are bytes by now
        picture = scale(convert(picture, channels, span), aim, resize)
        if turn in UPRIGHT:
            picture = picture.transpose(UPRIGHT[turn])
        return picture.filter(FILTERS[denoise]) if denoise != "none" else picture


def _orientation(picture: Image.Image) -> int:
    """As EXIF has it; 1 (upright) where there is none or it cannot be read, which is no fault of the pixels."""
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except DAMAGE:
        return 1


def convert(picture: Image.Image, channels: int, span: Span = "full") -> Image.Image:
    """In mode L or RGB: transparency over white, stored values of `span` as 0 to 255. Raises BadCell."""
    mode = "L" if channels == 1 else "RGB"
    deep = picture.mode.startswith(("I", "F"))
    if deep:
        picture = Image.fromarray(depth.to_bytes(np.asarray(picture), span))
    if picture.has_transparency_data:
        whole = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)
    picture = picture if picture.mode == mode else picture.convert(mode)
    return picture if deep or span == "full" else Image.fromarray(depth.to_bytes(np.asarray(picture), span))


def scale(picture: Image.Image, aim: tuple[int, int], resize: Resize) -> Image.Image:
    """The picture at `aim` (width, height): squashed, covering it with the centre kept, or inside it on black."""
    if picture.size == aim:
        picture.load()
        return picture
    (w, h), (W, H) = picture.size, aim
    bilinear = Image.Resampling.BILINEAR
    if resize == "squash":
        return picture.resize(aim, bilinear, reducing_gap=3.0)
    if resize == "crop":
        cut_w, cut_h = min(w, h * W / H), min(h, w * H / W)  # the largest centred part of the right aspect
        left, top = (w - cut_w) / 2, (h - cut_h) / 2
        return picture.resize(aim, bilinear, box=(left, top, left + cut_w, top + cut_h), reducing_gap=3.0)
    factor = min(W / w, H / h)
    inner = max(1, round(w * factor)), max(1, round(h * factor))
    canvas = Image.new(picture.mode, aim)
    canvas.paste(picture.resize(inner, bilinear, reducing_gap=3.0), ((W - inner[0]) // 2, (H - inner[1]) // 2))
    return canvas


def thumbnail(cell: object, side: int, max_pixels: int, span: Span = "full") -> bytes:
    """A JPEG of the picture, upright, its longer side at most `side` pixels. Raises BadCell."""
    picture = open_picture(cell, max_pixels, span)
    width, height = picture.size
    with refusing("a truncated or damaged picture"):
        turned = _orientation(picture) in LYING
    factor = min(1.0, side / max(width, height))
    size = max(1, round(height * factor)), max(1, round(width * factor))
    small = decode(cell, size[::-1] if turned else size, 3, "squash", max_pixels, span=span)
    file = BytesIO()
    small.save(file, "JPEG", quality=85)
    return file.getvalue()

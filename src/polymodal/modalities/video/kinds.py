"""What kind of file it is, by its first bytes."""

from __future__ import annotations

MOVING = (b"GIF87a", b"GIF89a", b"\x89PNG\r\n\x1a\n")
STILL = (
    b"\xff\xd8\xff",  # JPEG
    b"BM",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
    *(b"P%d%c" % (number, space) for number in range(1, 7) for space in b" \t\r\n"),  # PPM
)


def may_move(content: bytes) -> bool:
    """GIF, PNG and WebP: they can hold an animation, or a single picture."""
    return content.startswith(MOVING) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def is_still(content: bytes) -> bool:
    """JPEG, BMP, TIFF, JPEG 2000, PPM, AVIF."""
    return content.startswith(STILL) or (content[4:8] == b"ftyp" and content[8:12] in (b"avif", b"mif1"))

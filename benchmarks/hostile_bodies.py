"""What strangers send: broken and oversized files, bombs, paths and URLs as cells, broken JSON, forms and HTTP."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

Row = dict[str, Any]
BOMB = 200 << 20  # bytes that a bomb becomes when it is unpacked
WORDS = (
    "../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://127.0.0.1:{port}/health",
    "//127.0.0.1:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "\\\\127.0.0.1\\share\\a.png",
    "ftp://localhost/a",
    "data:,x",
    "~/.ssh/id_rsa",
    "/proc/self/environ",
    "/dev/zero",
    "weights.safetensors",
    "run.json",
    "a\x00b.png",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "|cat /etc/passwd",
    "$(touch /tmp/owned)",
    "`id`",
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/a}",
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    "1; DROP TABLE rows",
    "price < 50 or 1=1",
    "x' union select * from read_csv('/etc/passwd') --",
    "NaN",
    "Infinity",
    "-1e999",
    "9" * 5000,
    "",
    " ",
    "\u202e\u2066",
    "\ud800",
    "😀" * 3000,
    "a\u0301" * 5000,
    "\ufeff",
    "A" * 100_001,
    "ab " * 30_000,
    "Ω" * 99_999,
    "\r\n\r\nGET / HTTP/1.1\r\n",
    "__import__('os').system('id')",
)
NUMBERS = (0, -1, 1e308, -1e308, 5e-324, 2**63, 2**64, -(2**63) - 1, 10**400, True, False, None, [], {}, [[]], 1.5)


def png(
    width: int,
    height: int,
    data: bytes = b"\x00" * 64,
    chunks: tuple[tuple[bytes, bytes], ...] = (),
    kind: int = 2,
    depth: int = 8,
) -> bytes:
    """A PNG of these dimensions whose pixels are `data` already packed, with more chunks before them."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    listed = (b"IHDR", head), *chunks, (b"IDAT", data), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in listed)


def zeros(size: int) -> bytes:
    """So many zeros, packed."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)), packer.flush()])


def zipped(size: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../tmp/owned", b"x")
        file.writestr("a.png", bytes(size))
    return made.getvalue()


def saved(form: str, size: tuple[int, int] = (24, 24), mode: str = "RGB", **options: Any) -> bytes:
    made = io.BytesIO()
    Image.new(mode, size).save(made, form, **options)
    return made.getvalue()


def sound(frames: int = 800, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(frames * channels * width))
    return made.getvalue()


def bombs(clip: bytes, size: int = BOMB) -> dict[str, bytes]:
    """Files that are small, and say or become something large; or are not what they say."""
    packed = zeros(size)
    profile = b"icc\x00\x00" + packed
    jpeg, gif, bmp, tiff, webp = (saved(f) for f in ("JPEG", "GIF", "BMP", "TIFF", "WEBP"))
    wav = sound()
    huge = {
        "png 60000 x 60000": png(60000, 60000),
        "png 2^31 - 1": png(2**31 - 1, 2**31 - 1),
        "png 0 x 0": png(0, 0),
        "png 1 x 2^31 - 1": png(1, 2**31 - 1),
        "png full of zeros": png(8000, 8000, packed),
        "png 49 million": png(7000, 7000, packed),
        "png no pixels": png(16, 16, b""),
        "png depth 99": png(9, 9, depth=99),
        "png zTXt": png(16, 16, zlib.compress(bytes(16 * 49)), ((b"zTXt", b"a\x00\x00" + packed),)),
        "png iTXt": png(16, 16, zlib.compress(bytes(16 * 49)), ((b"iTXt", b"a\x00\x01\x00\x00\x00" + packed),)),
        "png iCCP": png(16, 16, zlib.compress(bytes(16 * 49)), ((b"iCCP", profile),)),
        "png eXIf": png(
            16, 16, zlib.compress(bytes(16 * 49)), ((b"eXIf", b"MM\x00\x2a\x00\x00\x00\x08" + b"\xff" * 4000),)
        ),
        "png 20000 texts": png(
            16, 16, zlib.compress(bytes(16 * 49)), tuple((b"tEXt", b"k%d\x00v" % n) for n in range(20000))
        ),
        "png frames": png(16, 16, chunks=((b"acTL", struct.pack(">II", 2**31 - 1, 0)),)),
    }
    sizes = {
        "jpeg 65500 x 65500": jpeg.replace(b"\x00\x18\x00\x18", b"\xff\xdc\xff\xdc", 1),
        "gif 65535 x 65535": gif[:6] + b"\xff\xff\xff\xff" + gif[10:],
        "bmp 2^31 - 1": bmp[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + bmp[26:],
        "bmp negative": bmp[:18] + struct.pack("<ii", -(2**31), -(2**31)) + bmp[26:],
        "tiff tags": tiff[:8] + b"\xff" * (len(tiff) - 8),
        "tiff loop": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
        "webp length": webp[:4] + b"\xff\xff\xff\x7f" + webp[8:],
        "ppm": b"P6 60000 60000 255 " + b"x" * 100,
        "jpeg2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\xff" * 200,
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "svg": b'<svg xmlns="x"><image href="file:///etc/passwd"/></svg>',
        "pdf": b"%PDF-1.4 " + b"1 0 obj " * 500,
        "psd": b"8BPS\x00\x01" + b"\xff" * 300,
        "ico": b"\x00\x00\x01\x00\xff\xff" + b"\xff" * 99,
        "zip": zipped(size // 4),
        "gzip": b"\x1f\x8b\x08" + packed[:5000],
        "elf": b"\x7fELF" + b"\x00" * 200,
        "pickle": b"\x80\x04cposix\nsystem\n(S'touch /tmp/owned'\ntR.",
        "html": b"<!doctype html><script>",
        "empty": b"",
        "one byte": b"\x89",
    }
    sounds = {
        "wav 4 GB": wav[:4] + b"\xff" * 4 + wav[8:40] + b"\xff" * 4 + wav[44:],
        "wav 1 Hz": sound(5000, 1),
        "wav 2^31 Hz": wav[:24] + b"\xff\xff\xff\x7f" + wav[28:],
        "wav 0 Hz": wav[:24] + bytes(4) + wav[28:],
        "wav 1000 channels": sound(20, channels=1000),
        "wav 65535 channels": wav[:22] + b"\xff\xff" + wav[24:],
        "wav no channels": wav[:22] + bytes(2) + wav[24:],
        "wav no frames": sound(0),
        "wav float": wav[:20] + b"\x03\x00" + wav[22:],
        "flac": b"fLaC\x80\x00\x00\x22" + b"\xff" * 34,
        "flac cut": b"fLaC",
        "ogg": b"OggS" + bytes(60),
        "mp3": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f",
        "mp3 frames": b"\xff\xfb\x90\x00" * 300,
        "aiff": b"FORM\xff\xff\xff\xffAIFF" + bytes(50),
    }
    at = clip.find(b"avc1") if b"avc1" in clip else clip.find(b"mp4v")
    clips = {
        "mp4 cut": clip[: len(clip) // 2],
        "mp4 head": clip[:40],
        "mp4 without index": clip.replace(b"moov", b"free", 1),
        "mp4 65535 x 65535": clip[: at + 28] + b"\xff" * 4 + clip[at + 32 :],
        "mp4 box": b"\x00\x00\x00\x01ftyp" + b"\xff" * 60,
        "mp4 reference": clip.replace(b"url ", b"urn ", 1),
        "m3u8": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "avi": b"RIFF\xff\xff\xff\xffAVI " + bytes(90),
        "mkv": b"\x1aE\xdf\xa3" + b"\xff" * 90,
        "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (9,)}" + b" " * 60 + b"\n",
        "npy shape": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,)}".ljust(
            127
        )
        + b"\n",
    }
    return {**huge, **sizes, **sounds, **clips}


def mutated(data: bytes, g: random.Random) -> bytes:
    """Cut, with bytes changed, doubled, or filled up."""
    made = bytearray(data)
    for _ in range(g.choice((1, 3, 30))):
        if made:
            made[g.randrange(len(made))] = g.choice((0, 255, g.randrange(256)))
    way = g.randrange(6)
    if way == 0:
        return bytes(made[: g.randrange(len(made) + 1)])
    if way == 1:
        return bytes(made) * 2
    return bytes(made) + g.randbytes(g.choice((0, 0, 999)))


def encoded(data: bytes) -> Row:
    return {"base64": base64.b64encode(data).decode()}


class Stranger:
    """Makes requests about a run by lot: `make(n)` gives a kind and what is sent; equal seeds, equal requests."""

    def __init__(
        self,
        port: int,
        row: Row,
        files: dict[str, bytes],
        clip: bytes,
        seed: int = 0,
        much: int = 10 << 20,
        bomb: int = BOMB,
    ) -> None:
        self.port, self.row, self.files, self.seed, self.much = port, row, files, seed, much
        self.bombs = list(bombs(clip, bomb).items())
        self.kinds: list[Callable[[random.Random], bytes]] = [
            self.bomb,
            self.broken_file,
            self.words,
            self.numbers,
            self.wrong_types,
            self.search,
            self.broken_json,
            self.deep_json,
            self.long_text,
            self.form,
            self.broken_form,
            self.headers,
            self.broken_http,
            self.chunked,
            self.paths,
            self.options,
            self.openai,
            self.noise,
        ]

    def make(self, number: int) -> tuple[str, bytes]:
        g = random.Random(f"{self.seed} {number}")
        kind = self.kinds[number % len(self.kinds)]
        return kind.__name__, kind(g)

    def each(self, count: int, start: int = 0) -> Iterator[tuple[str, bytes]]:
        return (self.make(n) for n in range(start, start + count))

    def request(
        self, path: str, body: bytes, kind: str = "application/json", method: str = "POST", more: str = ""
    ) -> bytes:
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        )
        return head.encode("latin-1", "replace") + body

    def json(self, path: str, value: Any) -> bytes:
        return self.request(path, json.dumps(value).encode("utf-8", "surrogatepass"))

    def endpoint(self, g: random.Random) -> str:
        return g.choice(("/v1/predict", "/v1/predict", "/v1/predict", "/v1/stream", "/v1/embed"))

    def sent(self, g: random.Random, column: str, value: Any) -> bytes:
        """A good row with one cell that is not."""
        return self.json(self.endpoint(g), {"rows": [self.row | {column: value}]})

    def word(self, g: random.Random) -> str:
        return g.choice(WORDS).replace("{port}", str(self.port))

    def bomb(self, g: random.Random) -> bytes:
        _, data = g.choice(self.bombs)
        named = encoded(data) | (
            {"name": self.word(g)[:4096].encode("utf-8", "replace").decode()} if g.random() < 0.3 else {}
        )
        return self.sent(g, g.choice(list(self.files)), named)

    def broken_file(self, g: random.Random) -> bytes:
        column = g.choice(list(self.files))
        return self.sent(g, column, encoded(mutated(self.files[g.choice((column, *self.files))], g)))

    def words(self, g: random.Random) -> bytes:
        column, word = g.choice(list(self.row)), self.word(g)
        return self.sent(
            g, column, g.choice((word, {"base64": word}, {"path": word}, {"url": word}, {"name": word, "base64": ""}))
        )

    def numbers(self, g: random.Random) -> bytes:
        value = g.choice(NUMBERS)
        row = self.row | {g.choice(list(self.row)): g.choice((value, [value] * 5, [[value, 1.0]] * 5, {"a": [value]}))}
        return self.request(self.endpoint(g), json.dumps({"rows": [row]}).encode())

    def wrong_types(self, g: random.Random) -> bytes:
        value: Any = g.choice(
            (None, 3, "x", [], {}, [[[]]], [None], {"base64": 3}, {"base64": None}, {"base64": "=" * 9}, True)
        )
        whole = g.choice(
            (
                value,
                {"rows": value},
                {"rows": [value]},
                {"rows": [self.row] * 300},
                {"rows": [{}]},
                {"rows": [self.row], "x": 1},
            )
        )
        return self.json(self.endpoint(g), whole)

    def search(self, g: random.Random) -> bytes:
        word = self.word(g)
        where = g.choice(
            (
                word,
                f"price < {word}",
                f"brand = '{word}'",
                f"brand = '{word}",
                "(" * 2000,
                "not " * 900 + "price < 1",
                "price < 50; select 1",
                "price in (1, 2",
                "1 = 1",
                "sleep(10)",
                "price + 1 < 3",
                "count(*) > 1",
            )
        )
        body: Row = {
            "queries": [{"input": g.choice((*self.row, word)), "value": g.choice((word, 3, encoded(b"x")))}][
                : g.randrange(2)
            ]
        }
        body |= g.choice(
            (
                {"where": where},
                {"words": word},
                {"like": [word]},
                {"unlike": [word] * 100},
                {"k": g.choice((0, 10**9, -1, 5))},
                {"offset": g.choice((-1, 10**9))},
                {"where": where, "words": word},
            )
        )
        return self.json("/v1/search", body)

    def broken_json(self, g: random.Random) -> bytes:
        text = json.dumps({"rows": [self.row]}).encode()
        made = (
            mutated(text, g),
            text[: g.randrange(len(text))],
            b'{"rows": [NaN]}',
            b'{"rows": [{"price": Infinity}]}',
            b'{"rows": [], "rows": [{}], "rows": 1}',
            b'{"rows": [{"price": 1, "price": "x", "price": null}]}',
            b'{"rows": [{"price": 1e99999}]}',
            b'{"rows": [{"title": "\\ud800"}]}',
            b'{"rows": [{"title": "\xff\xfe"}]}',
            text.decode().encode("utf-16"),
            b"\xef\xbb\xbf" + text,
            b"null",
            b"[]",
            b'"x"',
            b"",
            b"{" * 9,
            b'{"rows": [{"price": ' + b"9" * 6000 + b"}]}",
        )
        return self.request(self.endpoint(g), g.choice(made))

    def deep_json(self, g: random.Random) -> bytes:
        depth = g.choice((200, 5000, 200_000))
        inner = g.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
        path = g.choice(("/v1/predict", "/v1/search", "/v1/chat/completions", "/v1/embeddings"))
        return self.request(
            path, g.choice((inner, b'{"rows": [{"title": ' + inner + b"}]}", b'{"rows": ' + inner + b"}"))
        )

    def long_text(self, g: random.Random) -> bytes:
        text = g.choice(("x", "word ", "漢", "\\", '"', "\x00")) * (self.much // g.choice((2, 50)))
        return self.sent(
            g, g.choice(list(self.row)), g.choice((text, {"base64": text}, [1.5] * 20_000, {text[:50_000]: [1.0]}))
        )

    def parts(self, g: random.Random) -> list[tuple[str, str, bytes]]:
        """Of a form: the name, what stands behind it, and the content."""
        listed = [
            (
                n,
                f'; filename="{g.choice(("a.png", self.word(g)[:200]))}"' if n in self.files else "",
                self.files.get(n, str(v).encode()),
            )
            for n, v in self.row.items()
        ]
        at = g.randrange(len(listed))
        bad = (self.word(g)[:500], "", self.word(g).encode("utf-8", "surrogatepass")[:9000])
        changed = (
            bad,
            (listed[at][0], '; filename="x"', g.choice(self.bombs)[1]),
            (listed[at][0], "", bad[2]),
            listed[at],
            (
                "options",
                "",
                g.choice((b"{", b"NaN", b"[]", b'{"rows": []}', b"9" * 5000, b"[" * 90_000, b'{"seed": 1e400}')),
            ),
        )
        return [*listed, g.choice(changed)] if g.random() < 0.7 else listed[:at]

    def form(self, g: random.Random) -> bytes:
        body = b"".join(
            b'--b\r\ncontent-disposition: form-data; name="'
            + f'{name}"{more}'.encode("utf-8", "replace")
            + b"\r\n\r\n"
            + data
            + b"\r\n"
            for name, more, data in self.parts(g)
        )
        return self.request(self.endpoint(g), body + b"--b--\r\n", "multipart/form-data; boundary=b")

    def broken_form(self, g: random.Random) -> bytes:
        body = self.form(g).partition(b"\r\n\r\n")[2]
        kind = g.choice(
            (
                "multipart/form-data",
                "multipart/form-data; boundary=",
                "multipart/form-data; boundary=c",
                "multipart/form-data; boundary=" + "x" * 9000,
                'multipart/form-data; boundary="\xff"',
                "multipart/mixed; boundary=b",
                "multipart/form-data; boundary=b; boundary=c",
            )
        )
        body = g.choice(
            (
                body,
                mutated(body, g),
                body[: g.randrange(len(body) + 1)],
                b"--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b--",
                b"--b\r\n" + b"x: y\r\n" * 9000 + b"\r\n--b--",
                b"--b\r\n\r\n" * 5000,
                b'--b\r\ncontent-disposition: form-data; name="title"\r\n\r\nx\r\n' * 2000 + b"--b--",
            )
        )
        return self.request("/v1/predict", body, kind)

    def headers(self, g: random.Random) -> bytes:
        body = json.dumps({"rows": [self.row]}).encode()
        more = g.choice(
            (
                "authorization: Bearer x\r\n",
                "x-request-id: " + "x" * 9000 + "\r\n",
                "x-request-id: a\tb\r\n",
                "content-encoding: gzip\r\n",
                "content-encoding: br\r\n",
                "expect: 100-continue\r\n",
                "transfer-encoding: identity\r\n",
                "host: a\r\nhost: b\r\n",
                "upgrade: websocket\r\nconnection: upgrade\r\n",
                "x-forwarded-for: 127.0.0.1\r\nx-forwarded-host: evil\r\n",
                "range: bytes=0-\r\n",
                "".join(f"h{n}: v\r\n" for n in range(500)),
                "accept: application/xml\r\n",
                "cookie: " + "a=b;" * 900 + "\r\n",
                "content-type: text/plain\r\n",
                "x: \xff\xfe\r\n",
                "connection: close\r\n",
                "origin: http://evil\r\n",
            )
        )
        kind = g.choice(
            (
                "application/json",
                "application/json; charset=utf-16",
                "text/plain",
                "application/xml",
                "",
                "application/x-www-form-urlencoded",
                "application/octet-stream",
                "APPLICATION/JSON",
                "\x0b",
            )
        )
        return self.request(
            self.endpoint(g),
            body,
            kind,
            g.choice(("POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")),
            more,
        )

    def broken_http(self, g: random.Random) -> bytes:
        good = self.request("/v1/predict", b'{"rows": [{}]}')
        return g.choice(
            (
                mutated(good, g),
                b"GET\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + g.randbytes(200),
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /health HTTP/1.1\r\n\r\n",
                b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
                good.replace(b"content-length: 14", b"content-length: -1"),
                good.replace(b"content-length: 14", b"content-length: 99999999999999999999"),
                good.replace(b"content-length: 14", b"content-length: 14\r\ncontent-length: 3"),
                good.replace(b"content-length: 14", b"content-length: 5"),
                good.replace(b"content-length: 14", b"content-length: 14\r\ntransfer-encoding: chunked"),
                g.randbytes(300),
                b"POST /v1/predict HTTP/1.0\r\n\r\n",
                good.replace(b"\r\n", b"\n"),
                b"GET http://127.0.0.1:1/ HTTP/1.1\r\nhost: x\r\n\r\n",
                b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: x\r\n\r\n",
                b"GET /health HTTP/1.1\r\nhost: x\r\n a: folded\r\n\r\n",
            )
        )

    def chunked(self, g: random.Random) -> bytes:
        kind = b"host: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        head = b"POST /v1/predict HTTP/1.1\r\n" + kind
        body = json.dumps({"rows": [self.row]}).encode()
        whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        small = b"".join(b"1\r\n%c\r\n" % b for b in body[:3000]) + b"0\r\n\r\n"
        return head + g.choice(
            (
                whole,
                small,
                b"zz\r\nx\r\n0\r\n\r\n",
                b"ffffffffffffffff\r\nx",
                b"-1\r\n\r\n0\r\n\r\n",
                whole[:-5] + b"0\r\nx: y\r\n\r\n",
                b"5;" + b"e" * 9000 + b"\r\nhello\r\n0\r\n\r\n",
                b"0\r\n\r\n",
            )
        )

    def paths(self, g: random.Random) -> bytes:
        word = self.word(g)[:300].encode("utf-8", "surrogatepass")
        word = b"".join(b"%%%02X" % b if b <= 32 or b > 126 or b in b"?#%" else b"%c" % b for b in word)
        path = g.choice(
            (
                b"/page/" + word,
                b"/page/..%2f..%2f..%2fetc/passwd",
                b"/page/../../../../etc/passwd",
                b"/page/%2e%2e/%2e%2e/http/app.py",
                b"/page//etc/passwd",
                b"/page/....//....//etc/passwd",
                b"/page/..\\..\\app.py",
                b"/page/index.html%00.js",
                b"/page/",
                b"/v1/preview/" + word + b"/photo",
                b"/v1/preview/0/" + word,
                b"/v1/preview/../../x",
                b"/" + word,
                b"//evil.example/",
                b"/v1/predict/",
                b"/docs",
                b"/v1/run?x=" + word,
                b"/health%00",
                b"/openapi.json?" + b"a=b&" * 2000,
            )
        )
        return b"%b %b HTTP/1.1\r\nhost: x\r\n\r\n" % (g.choice((b"GET", b"GET", b"HEAD", b"DELETE")), path)

    def options(self, g: random.Random) -> bytes:
        value = g.choice(
            (
                *NUMBERS,
                self.word(g),
                {"search": "x"},
                {"search": "beam", "beams": 10**9},
                {"beams": 16, "search": "beam", "max_tokens": 1024},
                {"max_tokens": 10**9},
                {"temperature": 0},
                {"temperature": 1e-300, "search": "sample"},
                {"top_p": 0},
                {"top_k": -1},
            )
        )
        name = g.choice(("respond", "respond", "seed", "sets", "abstain", "reason", self.word(g)))
        return self.json(self.endpoint(g), {"rows": [self.row], name: value})

    def openai(self, g: random.Random) -> bytes:
        word = self.word(g)
        content: Any = g.choice(
            (
                word,
                None,
                [],
                [{"type": "image_url", "image_url": {"url": word}}],
                [{"type": "text", "text": word}],
                [{"type": "input_audio", "input_audio": {"data": word}}],
                [
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64," + encoded(g.choice(self.bombs)[1])["base64"]},
                    }
                ],
                [{"type": "x"}] * 99,
            )
        )
        chat = {
            "model": g.choice(("run", "run:say", word)),
            "messages": [{"role": g.choice(("user", "system", word)), "content": content}],
            "stream": g.random() < 0.3,
            g.choice(("temperature", "top_p", "max_tokens", "n", "seed", "stop")): g.choice(NUMBERS),
        }
        texts = {
            "model": g.choice(("run", word)),
            "input": g.choice((word, [word] * 9, ["x"] * 3000, [[1, 2]], 3)),
            "encoding_format": g.choice(("float", "base64", word)),
        }
        return self.json(
            *g.choice((("/v1/chat/completions", chat), ("/v1/chat/completions", chat), ("/v1/embeddings", texts)))
        )

    def noise(self, g: random.Random) -> bytes:
        return self.request(
            self.endpoint(g),
            g.randbytes(g.choice((1, 100, 100_000))),
            g.choice(("application/json", "multipart/form-data; boundary=b")),
        )

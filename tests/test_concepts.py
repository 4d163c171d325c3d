"""The page of concepts: every number worked out a second time with plain loops, every part there, both languages alike.

A section of `docs/concepts.md` is a `###` heading, a formula, a line that names the parts, and one Python block, which
`test_docs.py` runs. The numbers on the right of its asserts are compared here with those of the function of the same
heading below, which knows neither torch nor the project.
"""

from __future__ import annotations

import ast
import importlib
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import reduce
from inspect import getmembers, isfunction, signature
from math import ceil, cos, erf, exp, log, log10, pi, prod, sin, sqrt, tanh
from pathlib import Path

import pytest

from polymodal.core import catalog
from polymodal.tasks import losses, regress
from polymodal.tasks.classify import Classify

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
PART = re.compile(r"`((?:polymodal|torch)[\w.]*:\w[\w.]*)`")
BY = {"concepts.md": "Computed by: ", "concepts.zh-CN.md": "计算它的部件："}
NOT_YET = {"concepts.md": "not yet in the catalogue", "concepts.zh-CN.md": "目录里还没有"}


def sections(page: str) -> dict[str, str]:
    """Heading -> text of every `###` section."""
    text = re.sub(r"^## .*\n(?:(?!###).*\n)*", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.M)
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in re.split(r"^### ", text, flags=re.M)[1:]}


def parts_line(page: str, text: str) -> str:
    (line,) = (p.replace("\n", " ") for p in text.split("\n\n") if p.startswith(BY[page]))
    return line


def code(text: str) -> str:
    (body,) = (b for kind, b in BLOCK.findall(text) if kind == "python")
    return body


def flat(value: object) -> Iterator[float]:
    """The numbers in a literal, in order; truth values and texts are none."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from flat(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def asserted(body: str) -> list[float]:
    """The numbers that a block's asserts claim, in order."""
    tests = [node.test for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Assert)]
    right = [side for test in tests if isinstance(test, ast.Compare) for side in test.comparators]
    return [number for side in right if not isinstance(side, ast.Name) for number in flat(ast.literal_eval(side))]


EN, ZH = sections("concepts.md"), sections("concepts.zh-CN.md")
BY_HAND: dict[str, Callable[[], object]] = {}


def by_hand(title: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    def keep(work: Callable[[], object]) -> Callable[[], object]:
        assert title not in BY_HAND
        BY_HAND[title] = work
        return work

    return keep


def test_every_section_is_worked_out_by_hand() -> None:
    assert set(EN) == set(BY_HAND)


@pytest.mark.parametrize("title", EN)
def test_numbers_by_hand(title: str) -> None:
    claimed, found = asserted(code(EN[title])), list(flat(BY_HAND[title]()))
    assert claimed, "an example asserts at least one number"
    assert len(claimed) == len(found)
    assert found == pytest.approx(claimed, abs=0.5001e-4)


@pytest.mark.parametrize(("page", "title"), [(p, t) for p, s in zip(BY, (EN, ZH), strict=True) for t in s])
def test_sections_are_whole(page: str, title: str) -> None:
    text = dict(zip(BY, (EN, ZH), strict=True))[page][title]
    assert [kind for kind, _ in BLOCK.findall(text)] == ["text", "python"]
    line = parts_line(page, text)
    named = PART.findall(line)
    assert bool(named) != (NOT_YET[page] in line), "it names its parts, or says that there is none yet"
    assert isinstance(ast.parse(code(text)).body[-1], ast.Assert)
    for part in named:
        module, _, path = part.partition(":")
        assert callable(reduce(getattr, path.split("."), importlib.import_module(module))) or path.isupper()


def test_both_languages_say_the_same() -> None:
    assert len(EN) == len(ZH)
    for (title, one), two in zip(EN.items(), ZH.values(), strict=True):
        assert plain(one) == plain(two), title
        assert PART.findall(parts_line("concepts.md", one)) == PART.findall(parts_line("concepts.zh-CN.md", two)), title
        assert ("**A common slip.**" in one) == ("**常见错误。**" in two), title


def plain(text: str) -> list[str | list[str]]:
    """The blocks of a section without their comments; of a formula, the signs and digits, in no order."""
    formula, example = (re.sub(r"\s*#.*", "", body) for _, body in BLOCK.findall(text))
    signs = re.sub(r"[^\W\d_]{2,}|[\u4e00-\u9fff]|[-\s,:;.]", "", unicodedata.normalize("NFKC", formula))
    return [sorted(signs), example]


def test_every_fusion_task_and_loss_has_a_section() -> None:
    named = {p for text in EN.values() for p in PART.findall(parts_line("concepts.md", text))}
    assert set(catalog.PARTS["fusion"].values()) | set(catalog.PARTS["task"].values()) <= named
    own = [n for n, f in getmembers(losses, isfunction) if f.__module__ == losses.__name__ and n[0] != "_"]
    assert {f"{losses.__name__}:{name}" for name in own} <= named
    words = set(re.findall(r"`(\w+)`", " ".join(EN)))
    assert set(regress.LOSSES) | set(catalog.PARTS["fusion"]) <= words
    plain_settings = {"field", "width", "inputs", "separator", "hidden", "dropout", "norm"}
    assert set(signature(Classify).parameters) - plain_settings <= words


def test_what_is_not_there_yet_is_not_there() -> None:
    """Whoever builds it changes the section, which then names the part."""
    absent = {"attention": "Attention across modalities"}
    for kind, title in absent.items():
        there = NOT_YET["concepts.md"] in parts_line("concepts.md", EN[title])
        assert there != bool(catalog.PARTS[kind])


# ---------------------------------------------------------------------------------------- one neuron, layers


def sigmoid(z: float) -> float:
    return 1 / (1 + exp(-z))


def softmax(z: list[float]) -> list[float]:
    return [exp(v) / sum(exp(u) for u in z) for v in z]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def product(a: list[list[float]], b: list[list[float]]) -> list[list[float]]:
    return [[sum(row[k] * b[k][j] for k in range(len(b))) for j in range(len(b[0]))] for row in a]


@by_hand("Neuron")
def _() -> object:
    z = dot([0.5, -0.25], [1, 2]) + 0.1
    return z, max(0, z), sigmoid(z)


@by_hand("Activation functions")
def _() -> object:
    z = [-1.0, 0.0, 2.0]
    gelu = [v * (1 + erf(v / sqrt(2))) / 2 for v in z]
    return [max(0.0, v) for v in z], gelu, [1 - 2 / (exp(2 * v) + 1) for v in z], [sigmoid(v) for v in z]


@by_hand("Dense layer")
def _() -> object:
    return sum(1 for _ in range(10) for _ in range(9)) + 10, 1, 10


@by_hand("Softmax")
def _() -> object:
    p = softmax([2, 1, 0])
    return p, p, p[0]


def normalised(x: list[float], mean: float | None = None, variance: float | None = None) -> list[float]:
    mean = sum(x) / len(x) if mean is None else mean
    variance = sum((v - mean) ** 2 for v in x) / len(x) if variance is None else variance
    return [(v - mean) / sqrt(variance + 1e-5) for v in x]


@by_hand("Batch normalisation")
def _() -> object:
    x = [1.0, 2.0, 3.0, 6.0]
    mean, variance = 0.1 * sum(x) / 4, 0.9 + 0.1 * sum((v - sum(x) / 4) ** 2 for v in x) / 3
    return normalised(x), mean, variance, normalised(x, mean, variance)


@by_hand("Layer normalisation")
def _() -> object:
    return normalised([1.0, 2.0, 3.0, 6.0]), normalised([10.0, 20.0, 30.0, 60.0])


@by_hand("Dropout")
def _() -> object:
    return 0, 1 / (1 - 0.75), 1, 1, 1


# ---------------------------------------------------------------------------------------- pictures

EDGE = [[1, 0, -1]] * 3
ONES = [[1] * 3] * 3


def slide(x: list[list[int]], kernel: list[list[int]], padding: int = 0, stride: int = 1) -> list[list[int]]:
    """Cross-correlation, place by place."""
    size, k = len(x), len(kernel)

    def at(i: int, j: int) -> int:
        return x[i][j] if 0 <= i < size and 0 <= j < size else 0

    starts = range(-padding, size + padding - k + 1, stride)
    places = [(a, b) for a in range(k) for b in range(k)]
    return [[sum(at(i + a, j + b) * kernel[a][b] for a, b in places) for j in starts] for i in starts]


@by_hand("Cross-correlation and convolution")
def _() -> object:
    x = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    turned = sum(x[2 - k][2 - m] * EDGE[k][m] for k in range(3) for m in range(3))  # Σ x(i − k, j − l) w(k, l)
    return slide(x, EDGE), turned, slide(ONES, EDGE)


@by_hand("Padding and stride")
def _() -> object:
    places = len(range(-3, 224 + 3 - 7 + 1, 2))
    return slide(ONES, EDGE, padding=1), slide(ONES, EDGE, padding=1, stride=2), places, places


@by_hand("Pooling")
def _() -> object:
    x = [[1, 2, 5, 0], [3, 4, 1, 2], [0, 1, 2, 2], [7, 0, 2, 2]]
    windows = [[x[i + a][j + b] for a in (0, 1) for b in (0, 1)] for i in (0, 2) for j in (0, 2)]
    return [max(w) for w in windows], [sum(w) / 4 for w in windows]


@by_hand("Weights of a convolution and of a dense layer")
def _() -> object:
    numbers = 512 * (224 // 2) ** 2
    return 512 * 3 * 3 * 3 + 512, numbers, (numbers + 128) * 256, (512 + 128) * 256


@by_hand("Residual connection")
def _() -> object:
    return [max(0, x + 0.5 * max(0, x)) for x in (-1, 2)]


# ---------------------------------------------------------------------------------------- sequences


@by_hand("Embedding")
def _() -> object:
    table = [[0, 0], [0.5, 1], [-2, 3]]
    onehot = [[1 if i == word else 0 for i in range(3)] for word in (2, 1, 0)]
    return [table[2], table[1], table[0]], product(onehot, table)


def rnn(x: list[float], W: list[float], U: list[list[float]], b: list[float]) -> list[list[float]]:
    h, states = [0.0] * len(b), []
    for value in x:
        h = [tanh(W[i] * value + dot(U[i], h) + b[i]) for i in range(len(b))]
        states.append(h)
    return states


@by_hand("Recurrent net (RNN)")
def _() -> object:
    ones = rnn([1, 2], [1, 1], [[1, 1], [1, 1]], [1, 1])
    return rnn([1, 2, 3], [0.5, -0.5], [[0.1, 0.2], [0.3, 0.4]], [0.1, 0]), ones[0][0], ones[1][1]


def lstm(x: list[float]) -> list[tuple[float, ...]]:
    """Gates i, f, g, o, then C and h of every step, one unit."""
    C = h = 0.0
    steps = []
    for v in x:
        i, f = sigmoid(0.5 * v + 0.1 * h), sigmoid(1.0 * v + 0.2 * h + 1)
        g, o = tanh(-1.0 * v + 0.3 * h), sigmoid(0.25 * v + 0.4 * h)
        C = f * C + i * g
        h = o * tanh(C)
        steps.append((i, f, g, o, C, h))
    return steps


@by_hand("LSTM")
def _() -> object:
    first, second = lstm([1, -1])
    return first, second[-1]


@by_hand("GRU")
def _() -> object:
    h, states = 0.0, []
    for v in (1.0, 2.0):
        r, z = sigmoid(v + 0.5 * h), sigmoid(-0.5 * v + 0.25 * h)
        n = tanh(0.5 * v + 0.1 + r * (2 * h + 0.2))
        h = (1 - z) * n + z * h
        states.append(h)
    return states


@by_hand("The last word, not the padding")
def _() -> object:
    return lstm([1])[-1][-1], lstm([1, 0, 0])[-1][-1]


# ---------------------------------------------------------------------------------------- attention


def attend(q: list[list[float]], k: list[list[float]], v: list[list[float]]) -> list[list[float]]:
    out = []
    for row in q:
        weights = softmax([dot(row, key) / sqrt(len(key)) for key in k])
        out.append([sum(w * value[d] for w, value in zip(weights, v, strict=True)) for d in range(len(v[0]))])
    return out


@by_hand("Scaled dot-product attention")
def _() -> object:
    x = [[1.0, 0.0], [0.0, 1.0]]
    return attend(x, x, x), attend(x, x[:1], x[:1])


@by_hand("Positions")
def _() -> object:
    return [[f(p / 10000 ** (2 * i / 4)) for i in (0, 1) for f in (sin, cos)] for p in (0, 2)]


@by_hand("Transformer encoder layer")
def _() -> object:
    d = 128
    linear = [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)]
    return sum(n * m + m for n, m in linear) + 2 * 2 * d


@by_hand("Patches")
def _() -> object:
    return ceil(224 / 16), ceil(224 / 16), ceil(224 / 16) ** 2, 12 * 3 * 16**2 + 12


@by_hand("Attention across modalities")
def _() -> object:
    word, keys = [2.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]
    return softmax([dot(word, k) / sqrt(2) for k in keys]), attend([word], keys, [[10.0, 0.0], [20.0, 0.0]])


# ---------------------------------------------------------------------------------------- sound

TONE = [1, 0, -1, 0, 1, 0, -1, 0]


def power(x: list[int]) -> list[float]:
    """By the sum of the definition, no fast transform."""
    n = len(x)
    faded = [v * (1 - cos(2 * pi * i / n)) / 2 for i, v in enumerate(x)]
    real = [sum(v * cos(2 * pi * k * i / n) for i, v in enumerate(faded)) for k in range(n // 2 + 1)]
    imaginary = [sum(v * sin(2 * pi * k * i / n) for i, v in enumerate(faded)) for k in range(n // 2 + 1)]
    return [a * a + b * b for a, b in zip(real, imaginary, strict=True)]


def mel(f: float) -> float:
    return 2595 * log10(1 + f / 700)


def triangles() -> list[list[float]]:
    corners = [700 * (10 ** (mel(4000) * i / 3 / 2595) - 1) for i in range(4)]
    filters = []
    for left, peak, right in zip(corners, corners[1:], corners[2:], strict=False):
        rise = [(f - left) / (peak - left) if f <= peak else (right - f) / (right - peak) for f in range(0, 4001, 1000)]
        filters.append([max(0.0, v) for v in rise])
    return filters


def logmel(x: list[int]) -> list[float]:
    return [log(max(dot(power(x), f), 1e-10)) for f in triangles()]


def cosines(x: list[float]) -> list[float]:
    n = len(x)
    scale = [sqrt(1 / n)] + [sqrt(2 / n)] * (n - 1)
    return [s * sum(v * cos(pi * k * (m + 0.5) / n) for m, v in enumerate(x)) for k, s in enumerate(scale)]


@by_hand("Frames and power spectrum")
def _() -> object:
    return power(TONE), sum(1 for start in range(0, 16000, 160) if start + 400 <= 16000), 40


@by_hand("Mel scale")
def _() -> object:
    return mel(1000), triangles()


@by_hand("Log-mel spectrogram")
def _() -> object:
    return logmel(TONE), logmel([0] * 8)


@by_hand("MFCC")
def _() -> object:
    return cosines([1, 2, 3, 4]), cosines(logmel(TONE))


# ---------------------------------------------------------------------------------------- joining the modalities

PHOTO, TITLE = [1.0, 2.0], [3.0, -1.0]


@by_hand("One width for all")
def _() -> object:
    return [256] * 3, 3 * 256, sum(n * 256 + 256 for n in (768, 2048, 32))


@by_hand("Mean of the tokens")
def _() -> object:
    return (1 + 3) / 2, (2 + 6) / 2, round((1 + 3 + 0) / 3, 2), round((2 + 6 + 0) / 3, 2)


@by_hand("Fusion `concat`")
def _() -> object:
    return PHOTO + TITLE, [*PHOTO, 7, 7]


@by_hand("Fusion `sum`")
def _() -> object:
    return [a + b for a, b in zip(PHOTO, TITLE, strict=True)], PHOTO


@by_hand("Fusion `max`")
def _() -> object:
    fused = [max(a, b) for a, b in zip(PHOTO, TITLE, strict=True)]
    return fused, PHOTO, [sum(f == x for f, x in zip(fused, v, strict=True)) / 2 for v in (PHOTO, TITLE)], [1, 0]


@by_hand("Fusion `weighted`")
def _() -> object:
    w = softmax([log(3), 0])
    return w, [1, 0], [w[0] * a + w[1] * b for a, b in zip(PHOTO, TITLE, strict=True)], PHOTO


@by_hand("Fusion `transform`")
def _() -> object:
    rows = [(PHOTO, TITLE), (PHOTO, [-3, 0.5])]
    return [0.5 * max(0, a[0] + b[0]) - max(0, a[1] + b[1]) + 0.25 for a, b in rows]


@by_hand("Fusion `gated`")
def _() -> object:
    gates = [softmax([log(3), 0]), softmax([0, 0])]  # by feature
    fused = [g[0] * tanh(a) + g[1] * tanh(b) for g, a, b in zip(gates, PHOTO, TITLE, strict=True)]
    return [g[0] for g in gates], [g[1] for g in gates], fused, [tanh(a) for a in PHOTO]


@by_hand("Fusion `film`")
def _() -> object:
    gammas, shift = [(0.5 * t[0], t[1]) for t in (TITLE, [2, 1])], [0, 10]
    return [[(1 + g) * x + b for g, x, b in zip(gamma, PHOTO, shift, strict=True)] for gamma in gammas]


@by_hand("Fusion `tensor`")
def _() -> object:
    return [[a * b for b in [*TITLE, 1]] for a in [*PHOTO, 1]], [(h + 1) ** 2 for h in (16, 256)]


@by_hand("Fusion `low_rank`")
def _() -> object:
    u, v = [[1, 1, 1], [1, 0, 0]], [[1, 0, 1], [0, 1, 2]]
    rows = [[[*PHOTO, 1], [*TITLE, 1]], [[*PHOTO, 1], [0, 0, 1]]]
    fused = [0.5 * dot(u[0], a) * dot(v[0], b) + 2 * dot(u[1], a) * dot(v[1], b) + 1 for a, b in rows]
    a, b = rows[0]
    places = [(i, j) for i in range(3) for j in range(3)]
    full = sum((0.5 * u[0][i] * v[0][j] + 2 * u[1][i] * v[1][j]) * a[i] * b[j] for i, j in places)
    return fused, full + 1, sum(257 * 256 for _ in range(3) for _ in range(4))


@by_hand("Fusion `bilinear`")
def _() -> object:
    t, u = [tanh(v) for v in PHOTO], [tanh(v) for v in TITLE]
    mutan = [t[0] * u[0] + t[1] * u[0], t[1] * u[1] + t[0] * u[1]]
    sketch = [0.0] * 3  # every product of two features lands where the sum of their places says
    for a, place, sign in zip(PHOTO, (0, 1), (1, -1), strict=True):
        for b, other in zip(TITLE, (1, 2), strict=True):
            sketch[(place + other) % 3] += sign * a * b
    root = [sqrt(abs(y)) * (1 if y > 0 else -1) for y in sketch]
    return [a * b for a, b in zip(t, u, strict=True)], mutan, [r / sqrt(dot(root, root)) for r in root]


@by_hand("Fusion `attention_pool`")
def _() -> object:
    weights = softmax([PHOTO[0] / sqrt(2), TITLE[0] / sqrt(2)])
    return weights, [1, 0], attend([[1, 0]], [PHOTO, TITLE], [PHOTO, TITLE])[0], PHOTO


@by_hand("Fusion `transformer`")
def _() -> object:
    tokens = [[0.0] * 4, normalised([1, 2, 3, 6]), normalised([6, 3, 2, 1])]
    fused = [normalised([sum(column) / n for column in zip(*tokens[:n], strict=True)]) for n in (3, 2)]
    d = 128
    layer = sum(n * m + m for n, m in [(d, 3 * d), (d, d), (d, 4 * d), (4 * d, d)]) + 2 * 2 * d
    return fused, 2 * layer + 2 * d + 2 * d + d


@by_hand("Fusion `mixture`")
def _() -> object:
    p = [0.5, 0.3, 0.2]
    w = [v / (p[0] + p[1]) for v in p[:2]] + [0]
    rows = [(PHOTO, TITLE), (PHOTO, [-3, 0.5])]
    fused = [w[0] * max(0, a[0] + b[0]) + w[1] * (0.5 - max(0, a[1] + b[1])) for a, b in rows]
    shares = [0.5, 0.5, 0]
    return w, fused, [3 * dot(shares, p)] * 2


@by_hand("Graph convolution")
def _() -> object:
    joined, H = [[0, 1], [0, 1, 2], [1, 2]], [1, 2, 3]
    return [sum(H[j] / sqrt(len(joined[i]) * len(joined[j])) for j in joined[i]) for i in range(3)]


@by_hand("Fusion `graph`")
def _() -> object:
    def fused(nodes: list[list[float]]) -> tuple[list[float], list[float]]:
        g = [normalised(h) for h in nodes]
        weights = softmax([max(v[0], 0.2 * v[0]) for v in g])  # the same for every node, as U is zero
        told = [dot(weights, column) for column in zip(*g, strict=True)]
        told = [v * (1 + erf(v / sqrt(2))) / 2 for v in told]
        states = [normalised([a + b for a, b in zip(h, told, strict=True)]) for h in nodes]
        return weights, [sum(column) / len(nodes) for column in zip(*states, strict=True)]

    (both, z), (_, alone) = fused([[1, 2, 3, 6], [6, 3, 2, 1]]), fused([[1, 2, 3, 6]])
    return both, both, [1, 0], [0, 0], z, alone


# ---------------------------------------------------------------------------------------- heads and losses


def surprises(z: list[float]) -> list[float]:
    return [-log(p) for p in softmax(z)]


@by_hand("Cross-entropy")
def _() -> object:
    z = [2.0, 1.0, 0.0]
    return surprises(z)[0], surprises(z)[2], surprises(softmax(z))[0], surprises([1, 0, 0])[0]


@by_hand("Label smoothing: `label_smoothing`")
def _() -> object:
    return dot([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3], surprises([2, 1, 0]))


@by_hand("Focal loss: `focal`")
def _() -> object:
    p = softmax([2, 1, 0])
    return [[-((1 - v) ** gamma) * log(v) for v in p] for gamma in (2, 0)]


@by_hand("Class weights: `class_weights`")
def _() -> object:
    weights, rows = [8 / (2 * 6), 8 / (2 * 2)], surprises([1, 0])
    return weights, rows, dot(weights, rows) / sum(weights)


@by_hand("Several classes at once: `multi`")
def _() -> object:
    p = [sigmoid(2), sigmoid(-1)]
    return [-sum(log(v) if t else log(1 - v) for v, t in zip(p, truth, strict=True)) / 2 for truth in ([1, 0], [0, 1])]


@by_hand("Losses of numbers: `mse`, `mae`, `huber`")
def _() -> object:
    errors = [0.5, -2.0]
    huber = [e * e / 2 if abs(e) <= 1 else abs(e) - 0.5 for e in errors]
    return [e * e for e in errors], [abs(e) for e in errors], huber


@by_hand("Standardised target")
def _() -> object:
    mean = (10 + 20 + 30) / 3
    std = sqrt(sum((v - mean) ** 2 for v in (10, 20, 30)) / 3)
    return mean, std, (30 - mean) / std, (30 - mean) / std * std + mean


@by_hand("A sentence, word by word")
def _() -> object:
    chance = prod([0.5, 0.25, 0.8])
    return -log(chance), chance ** (-1 / 3)


@by_hand("Text from steps (CTC)")
def _() -> object:
    p = [0.6, 0.4]  # of the blank and of the sign, at either step
    paths = {path: p[path[0]] * p[path[1]] for path in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    spelled = sum(chance for path, chance in paths.items() if any(path))  # two signs in a row are one
    return spelled, -log(spelled), max(paths.values())


@by_hand("Masked words")
def _() -> object:
    return (surprises([0, 1])[1] + surprises([1, 1])[0]) / 2


@by_hand("Do they belong together?")
def _() -> object:
    return -log(sigmoid(2.0)), -log(1 - sigmoid(-1.0))


@by_hand("Answers of several people")
def _() -> object:
    return [sum(min(1, (k - gave) / 3) for gave in [1] * k + [0] * (10 - k)) / 10 for k in (1, 2, 3, 4)]


@by_hand("Contrastive loss")
def _() -> object:
    s = [[dot(u, v) / 0.5 for v in ([0.8, 0.6], [0.0, 1.0])] for u in ([1.0, 0.0], [0.0, 1.0])]
    columns = [[row[j] for row in s] for j in (0, 1)]
    return s, sum(surprises(m[i])[i] for m in (s, columns) for i in (0, 1)) / 4


@by_hand("A GAN's two losses")
def _() -> object:
    def d(fake: float) -> float:
        return -log(sigmoid(2)) - log(1 - sigmoid(fake))

    def g(fake: float) -> float:
        return -log(sigmoid(fake))

    small = 1e-5
    slopes = [(f(-1 + small) - f(-1 - small)) / (2 * small) for f in (d, g)]
    return d(-1), g(-1), slopes


# ---------------------------------------------------------------------------------------- training


@by_hand("Gradient descent with momentum: `sgd`")
def _() -> object:
    w, v, path = 1.0, 0.0, []
    for _ in range(2):
        gradient = w
        v = 0.9 * v + gradient
        w -= 0.1 * (gradient + 0.9 * v)
        path.append(w)
    return path


@by_hand("Adam and AdamW: `adam`, `adamw`")
def _() -> object:
    paths = []
    for decay in (0.0, 0.5):
        w, m, s = 1.0, 0.0, 0.0
        for t, gradient in enumerate((3.0, -1.0), 1):
            m, s = 0.9 * m + 0.1 * gradient, 0.999 * s + 0.001 * gradient**2
            w = w * (1 - 0.1 * decay) - 0.1 * (m / (1 - 0.9**t)) / (sqrt(s / (1 - 0.999**t)) + 1e-8)
            paths.append(w)
    return paths


@by_hand("Warm-up and cosine")
def _() -> object:
    return [(t + 1) / 2 if t < 2 else (1 + cos(pi * (t - 2) / 8)) / 2 for t in range(10)]


@by_hand("Clipping the gradient")
def _() -> object:
    length = sqrt(3**2 + 4**2)
    return [v * min(1, 1 / length) for v in (3, 4)]


@by_hand("Averaged weights: `ema`")
def _() -> object:
    first = 1 / 10 * 1.0
    return first, 2 / 11 * first


# ---------------------------------------------------------------------------------------- believing the numbers

TRUTH, GUESS = [0, 0, 0, 1], [0, 0, 1, 1]
PAIRS = list(zip(TRUTH, GUESS, strict=True))


@by_hand("Accuracy")
def _() -> object:
    found = [PAIRS.count((c, c)) / TRUTH.count(c) for c in (0, 1)]
    return sum(t == g for t, g in PAIRS) / 4, sum(found) / 2


@by_hand("Macro-F1")
def _() -> object:
    each = []
    for c in (0, 1):
        precision, recall = PAIRS.count((c, c)) / GUESS.count(c), PAIRS.count((c, c)) / TRUTH.count(c)
        each.append(2 * precision * recall / (precision + recall))
    return each, sum(each) / 2


@by_hand("F1 of spans")
def _() -> object:
    true, said = {(0, 1, "PER"), (3, 3, "PER")}, {(0, 0, "PER"), (3, 3, "PER")}
    found = len(true & said)
    return found, len(true), len(said), 2 * found / (len(true) + len(said))


@by_hand("AUROC and average precision")
def _() -> object:
    rows = [(0.9, True), (0.8, False), (0.4, True), (0.3, False)]
    pairs = [(p, n) for p, yes in rows for n, other in rows if yes and not other]
    auroc = sum((p > n) + (p == n) / 2 for p, n in pairs) / len(pairs)
    precision = [sum(y for _, y in rows[: i + 1]) / (i + 1) for i, (_, yes) in enumerate(rows) if yes]
    return auroc, sum(precision) / len(precision)


@by_hand("R², RMSE and MAE")
def _() -> object:
    truth, guess = [1, 2, 3], [1.5, 2, 2.5]
    e = [t - p for t, p in zip(truth, guess, strict=True)]
    squares = sum(v * v for v in e)
    return sqrt(squares / 3), sum(abs(v) for v in e) / 3, 1 - squares / sum((t - 2) ** 2 for t in truth)


@by_hand("Interval by resampling")
def _() -> object:
    draws = [[1, 0, 1], [1, 1, 1], [0, 0, 0]]  # 1: right; the rows that were drawn, one after the other
    return [sum(draw) / 3 for draw in draws]


@by_hand("Calibration error")
def _() -> object:
    bins = [(0.9, [1, 1, 1, 0]), (0.6, [1, 0])]
    return sum(len(right) / 6 * abs(sum(right) / len(right) - sure) for sure, right in bins)


@by_hand("Temperature scaling")
def _() -> object:
    best = log(9) / log(3)  # where σ(ln 9 / T) = 3/4, that is ln 9 / T = ln 3
    return best, softmax([log(0.9) / best, log(0.1) / best])


@by_hand("Conformal prediction")
def _() -> object:
    scores = [0.22, 0.05, 0.4, 0.12, 0.8, 0.3, 0.1, 0.35, 0.2]
    k = next(k for k in range(1, 10) if 10 * k >= 8 * 10)  # the first with k / (n + 1) ≥ 8/10
    q = next(s for s in scores if sum(other <= s for other in scores) == k)
    return k, q, next(k for k in range(1, 20) if 10 * k >= 9 * 9)

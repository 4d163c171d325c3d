"""Every attention once more for one row, with loops over heads, tokens and spans in numpy: no padding, no masks.

`row` is the real tokens [T D] of each input, T = 0 where it is missing; `w` the weights by their names. Each function
gives the tokens, and the weights worth showing, by input number (`i`) or pair (`i, j`).
"""

from __future__ import annotations

import math

import numpy as np

Row = list[np.ndarray]
Weights = dict[str, np.ndarray]


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def norm(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max()) if len(scores) else scores
    return e / e.sum() if len(scores) else e


def looked(query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """What each token takes, before the output map, and the mean weights over the heads."""
    d = query.shape[1] // heads
    taken, mean = np.zeros_like(query), np.zeros((len(query), len(key)))
    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        for t in range(len(query)):
            weight = softmax(np.array([query[t, part] @ key[s, part] / math.sqrt(d) for s in range(len(key))]))
            mean[t] += weight / heads
            for s in range(len(key)):
                taken[t, part] += weight[s] * value[s, part]
    return taken, mean


def ask(w: Weights, name: str, x: np.ndarray, seen: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    if not len(seen):
        return np.zeros_like(x), np.zeros((len(x), 0))
    key, value = np.split(linear(w, f"{name}.key_value", seen), 2, 1)
    taken, mean = looked(linear(w, f"{name}.query", x), key, value, heads)
    return linear(w, f"{name}.out", taken), mean


def mix(w: Weights, name: str, x: np.ndarray, heads: int) -> np.ndarray:
    query, key, value = np.split(linear(w, f"{name}.qkv", norm(w, f"{name}.norm1", x)), 3, 1)
    return x + linear(w, f"{name}.out", looked(query, key, value, heads)[0])


def feed(w: Weights, name: str, x: np.ndarray, before: str = "norm2") -> np.ndarray:
    return x + linear(w, f"{name}.down", gelu(linear(w, f"{name}.up", norm(w, f"{name}.{before}", x))))


def layer(w: Weights, name: str, x: np.ndarray, heads: int) -> np.ndarray:
    return feed(w, name, mix(w, name, x, heads))


def bidirectional(w: Weights, row: Row, layers: int, heads: int, share: bool = False, self_attention: bool = True):
    weights = {}
    for depth in range(layers):
        at, before, after = f"layers.{depth}", row, []
        for i, x in enumerate(before):
            answers = []
            for j, y in enumerate(before):
                if j != i:
                    key = f"{at}.ask.all" if share else f"{at}.ask.{i}_{j}"
                    asking, asked = norm(w, f"{at}.norms.{i}", x), norm(w, f"{at}.norms.{j}", y)
                    answer, weights[i, j] = ask(w, key, asking, asked, heads)
                    answers += [answer] if len(y) else []
            x = x + sum(answers) / len(answers) if answers else x
            rest = f"{at}.rest.{i}"
            after.append(layer(w, rest, x, heads) if self_attention else feed(w, rest, x, "norm"))
        row = after
    return [norm(w, f"norms.{i}", x) for i, x in enumerate(row)], weights


def stacked(w: Weights, row: Row, layers: int, heads: int):
    weights, lengths = {}, [len(x) for x in row]
    for depth in range(layers):
        at = f"look.layers.{depth}"
        mixed, after = [mix(w, f"{at}.blocks.{i}", x, heads) for i, x in enumerate(row)], []
        for i, x in enumerate(mixed):
            others = [j for j in range(len(row)) if j != i]
            if others:
                seen = np.concatenate([norm(w, f"{at}.norms.{j}", mixed[j]) for j in others])
                answer, mean = ask(w, f"{at}.guide.{i}", norm(w, f"{at}.norms.{i}", x), seen, heads)
                x, ends = x + answer, np.cumsum([lengths[j] for j in others])
                for j, part in zip(others, np.split(mean, ends[:-1], 1), strict=True):
                    weights[i, j] = part
            after.append(feed(w, f"{at}.blocks.{i}", x))
        row = after
    return [norm(w, f"look.norms.{i}", x) for i, x in enumerate(row)], weights


def coattention(w: Weights, at: str, row: Row) -> list[np.ndarray]:
    """The attention a_i [T] of every input."""
    found = []
    for i, x in enumerate(row):
        scores = np.zeros(len(x))
        for t in range(len(x)):
            h = w[f"{at}.maps.{i}.weight"] @ x[t]
            for j, y in enumerate(row):
                for s in range(len(y) if j != i else 0):
                    one, two = (x[t], y[s]) if i < j else (y[s], x[t])
                    affinity = math.tanh(one @ w[f"{at}.affinity.{min(i, j)}_{max(i, j)}.weight"].T @ two)
                    h = h + affinity * (w[f"{at}.maps.{j}.weight"] @ y[s])
            scores[t] = w[f"{at}.scores.{i}.weight"][0] @ np.tanh(h)
        found.append(softmax(scores))
    return found


def parallel(w: Weights, row: Row):
    weights = dict(enumerate(coattention(w, "look", row)))
    return [x * weights[i][:, None] * len(x) for i, x in enumerate(row)], weights


def hierarchical(w: Weights, row: Row, levels: int, window: int):
    shares = [np.zeros(len(x)) for x in row]
    for level in range(levels):
        size = window**level if level < levels - 1 or levels == 1 else 10**9  # the last level: the whole
        spans = [[range(s, min(s + size, len(x))) for s in range(0, len(x), size)] for x in row]
        means = [np.array([x[list(span)].mean(0) for span in of]).reshape(-1, x.shape[1])
                 for x, of in zip(row, spans, strict=True)]  # fmt: skip
        whole = level == levels - 1 and levels > 1
        attention = [np.ones(len(m)) for m in means] if whole else coattention(w, f"levels.{level}", means)
        for i, of in enumerate(spans):
            for number, span in enumerate(of):
                for t in span:
                    shares[i][t] += attention[i][number] / len(span) / levels
    return [x * shares[i][:, None] * len(x) for i, x in enumerate(row)], dict(enumerate(shares))


def bottleneck(w: Weights, row: Row, layers: int, heads: int, from_layer: int):
    passage = w["bottleneck.weight"]
    for depth in range(layers):
        written, after = [], []
        for i, x in enumerate(row):
            both = layer(w, f"layers.{depth}.{i}", x if depth < from_layer else np.concatenate([x, passage]), heads)
            after.append(both[: len(x)])
            written += [both[len(x) :]] if len(x) else []
        if depth >= from_layer:
            passage = sum(written) / len(written) if written else np.zeros_like(passage)
        row = after
    return [norm(w, f"norms.{i}", x) for i, x in enumerate(row)], {}


def perceiver(w: Weights, row: Row, layers: int, heads: int):
    row = [x + w["marks.weight"][i] for i, x in enumerate(row)]
    latents, seen = w["latents.weight"], norm(w, "read.norm_seen", np.concatenate(row))
    answer, mean = ask(w, "read.attend", norm(w, "read.norm", latents), seen, heads)
    latents = feed(w, "read.feed", latents + answer, "norm")
    for depth in range(layers):
        latents = layer(w, f"layers.{depth}", latents, heads)
    known, after = norm(w, "write.norm_seen", latents), []
    for x in row:
        x = x + ask(w, "write.attend", norm(w, "write.norm", x), known, heads)[0]
        after.append(norm(w, "norm", feed(w, "write.feed", x, "norm")))
    shares = mean.mean(0) if mean.shape[1] else np.zeros(0)
    return after, dict(enumerate(np.split(shares, np.cumsum([len(x) for x in row])[:-1])))


def none(w: Weights, row: Row):
    return row, {}

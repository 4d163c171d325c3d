"""The words that measures of language count: lower case, without punctuation; Chinese and kana one character each.

For English this follows what `pycocoevalcap` measures after its PTB tokenizer (Stanford CoreNLP 3.4.1, which needs
Java) and its list of dropped marks: clitics are words of their own (`do n't`, `dog 's`); `t-shirt`, `and/or`, `at&t`
and `a.com` are one word; numbers keep points and commas, `u.s.` and `mr.` their full stops. What differs: brackets are
dropped (there they stay, as `-lrb-`), as are `?!`, `!!!`, mark-up, emoticons and signs but `& % $ £ € # @ * + =`;
of abbreviations only the commonest keep their full stop; `y'all`, `'tis` and `'n'` are cut otherwise, `5'10` is one
word, and `½` and `£` remain as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Han, and the Japanese kana: scripts written without spaces.
ONE_BY_ONE = r"\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = rf"[^\W_{ONE_BY_ONE}]"  # or a digit, of any script
_INSIDE = "-'/.&_"  # what stands inside words but not at their ends
_MARKED = rf"{_LETTER}[\u0300-\u036f\u0900-\u0dff\u0e31-\u0e4e]*"
_WORD = re.compile(
    rf"[{ONE_BY_ONE}]"  # a character that stands for itself
    r"|(?:[^\W\d_]\.){2,}"  # u.s.
    r"|(?:dr|jr|mr|mrs|ms|prof|sr|st|vs)\."
    r"|\d+(?:[.,:]\d+)+"  # 3.5, 1,000, 10:30
    rf"|(?:{_MARKED})+(?:[{_INSIDE}](?:{_MARKED})+)*"  # dog, t-shirt, don't
    r"|(?<!\w)'(?:s|re|ve|ll|d|m)(?!\w)"  # a clitic that was cut before
    r"|[&%$£€#@*+=]"
)
_CLITIC = re.compile(r"(?:n't|'(?:s|re|ve|ll|d|m))$")
_FUSED = {
    "cannot": ["can", "not"], "gonna": ["gon", "na"], "gotta": ["got", "ta"], "wanna": ["wan", "na"],
    "lemme": ["lem", "me"], "gimme": ["gim", "me"],
}  # fmt: skip


def words(text: str) -> list[str]:
    """The words of `text`, see above. None of them holds white space.

    >>> words("A man's T-shirt doesn't fit.")
    ['a', 'man', "'s", 't-shirt', 'does', "n't", 'fit']
    >>> words("一只黑狗 runs!")
    ['一', '只', '黑', '狗', 'runs']
    """
    return [part for word in _found(text) for part in _parts(word)]


def spoken(text: str) -> list[str]:
    """Words as word error rates count them: as `words`, but `don't` is one word.

    >>> spoken("Don't go -- it's 3.5 km!")
    ["don't", 'go', "it's", '3.5', 'km']
    """
    return _found(text)


def _found(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", text).lower().replace("\u2019", "'"))


def _parts(word: str) -> list[str]:
    if "'" not in word:
        return _FUSED.get(word, [word])
    after: list[str] = []
    while (clitic := _CLITIC.search(word)) and clitic.start():
        word, after = word[: clitic.start()].rstrip(_INSIDE), [clitic.group(), *after]
    return [word, *after]


def joined(sentence: Iterable[str]) -> str:
    """Words with one space between them, but none between two characters of a script written without spaces.

    >>> joined(["一", "只", "dog"])
    '一只 dog'
    """
    return _BETWEEN.sub("", " ".join(sentence))


_BETWEEN = re.compile(rf"(?<=[{ONE_BY_ONE}]) (?=[{ONE_BY_ONE}])")

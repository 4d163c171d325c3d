"""Stop words: short lists of function words, and the pattern that finds them in running text."""

from __future__ import annotations

import re
from collections.abc import Iterable

ENGLISH = """
a about above after again against all also am an and any are aren't as at be because been before being below between
both but by can can't could couldn't did didn't do does doesn't doing don't down during each few for from further had
hadn't has hasn't have haven't having he he's her here here's hers herself him himself his how i i'd i'll i'm i've if
in into is isn't it it's its itself just let's me more most my myself no nor not now of off on once only or other our
ours ourselves out over own same she she's should shouldn't so some such than that that's the their theirs them
themselves then there there's these they they'd they'll they're they've this those through to too under until up upon
very was wasn't we we'd we'll we're we've were weren't what what's when where which while who whom whose why will with
won't would wouldn't you you'd you'll you're you've your yours yourself yourselves
""".split()  # noqa: SIM905  a list of words is read as words

CHINESE = """
的 了 吗 呢 吧 啊 呀 嘛 哦 啦 与 及 和 或 且 但是 并且 而且 或者 以及 因为 所以 因此 如果 虽然 不过 然而 于是 就 都 也
还 又 很 是 在 把 被 这 那 这个 那个 这些 那些 这里 那里 我 你 他 她 它 我们 你们 他们 她们 它们 什么 怎么 谁 们
""".split()  # noqa: SIM905

LISTS = {"english": ENGLISH, "chinese": CHINESE}
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff"
_LETTER = rf"[^\W{_HAN}]"  # of a script that writes words with spaces between them


def pattern(words: Iterable[str]) -> re.Pattern[str] | None:
    """What finds the words in a text, in either case: whole words, or anywhere for those written in Han characters.

    None for an empty list. Chinese is written without spaces, so 的 is found inside 目的 too.
    """
    longest_first = sorted({w for w in words if w.strip()}, key=lambda w: (-len(w), w))
    anywhere = [re.escape(w) for w in longest_first if re.search(f"[{_HAN}]", w)]
    whole = [re.escape(w).replace("'", "['’]") for w in longest_first if not re.search(f"[{_HAN}]", w)]
    found = list(anywhere)
    if whole:
        found.append(rf"(?<!{_LETTER})(?<!\w['’])(?:{'|'.join(whole)})(?!['’]?{_LETTER})")
    return re.compile("|".join(found), re.IGNORECASE) if found else None

"""Perturb messages as thumbs, input methods, microphones and filter-dodgers do. Seeded; labels stay true.

Every family is a function of (text, rng) → text. Normalisation undoes some of them on purpose (spaces, width,
traditional characters): scoring them apart shows that it does.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache

import opencc
from pypinyin import Style, lazy_pinyin

Noise = Callable[[str, random.Random], str]
COMMON = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
    "日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政"
    "退订短信息别收推停止烦滚骚扰催债钱款贷借利费骗诉举报病困难失业死活跳逼宽限腿定丁盯顶讯新西钉褪蜕据拒取"
    "晒煞笔傻妈马吗骂嘛尼泥你呢卖买迈娘凉狗苟够贱见件箭建操草曹艹糙日入如仁认人任真针阵珍正政证整几机级及急"
)


@lru_cache(maxsize=1)
def _sounds() -> dict[str, list[str]]:
    """Common characters by their toneless syllable: what an input method offers for it."""
    table: dict[str, list[str]] = defaultdict(list)
    for char in dict.fromkeys(COMMON):
        table[lazy_pinyin(char)[0]].append(char)
    return table


@lru_cache(maxsize=1)
def _traditional() -> opencc.OpenCC:
    return opencc.OpenCC("s2t")


def _is_chinese(char: str) -> bool:
    return "\u4e00" <= char <= "\u9fff"


def _replace_some(
    text: str, rng: random.Random, share: float, replace: Callable[[str], str]
) -> str:
    places = [i for i, c in enumerate(text) if _is_chinese(c)]
    if not places:
        return text
    chosen = set(rng.sample(places, max(1, round(share * len(places)))))
    return "".join(replace(c) if i in chosen else c for i, c in enumerate(text))


def homophone(text: str, rng: random.Random) -> str:
    """Write some characters as others of the same sound: 退订 as 腿定."""

    def swap(char: str) -> str:
        others = [c for c in _sounds().get(lazy_pinyin(char)[0], []) if c != char]
        return rng.choice(others) if others else char

    return _replace_some(text, rng, 0.2, swap)


def pinyin(text: str, rng: random.Random) -> str:
    """Spell some characters out: 退ding."""
    return _replace_some(text, rng, 0.25, lambda c: lazy_pinyin(c)[0])


def initials(text: str, rng: random.Random) -> str:
    """Write some characters by the first letter of their sound: 别f了."""
    return _replace_some(text, rng, 0.15, lambda c: lazy_pinyin(c, style=Style.FIRST_LETTER)[0])


def punctuate(text: str, rng: random.Random) -> str:
    """Put marks between characters, as people do to slip past a filter: 退.订."""
    mark = rng.choice([".", "*", "-", "/", "~", "_", "·", "、", "|", "+", " ", "\u200b"])
    share = rng.choice([0.3, 1.0])
    return "".join(c + (mark if rng.random() < share else "") for c in text[:-1]) + text[-1:]


def drop(text: str, rng: random.Random) -> str:
    """Lose a character, as hurried thumbs do; texts under six characters keep all of theirs."""
    if len(text) < 6:
        return text
    place = rng.randrange(len(text))
    return text[:place] + text[place + 1 :]


def double(text: str, rng: random.Random) -> str:
    """Type a character twice."""
    place = rng.randrange(len(text)) if text else 0
    return text[:place] + text[place : place + 1] + text[place:]


def swap(text: str, rng: random.Random) -> str:
    """Exchange two neighbours in a text of six characters or more."""
    if len(text) < 6:
        return text
    place = rng.randrange(len(text) - 1)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def unpunctuated(text: str, rng: random.Random) -> str:
    """Leave out all marks, as voice input does, with a filler word now and then."""
    plain = "".join(c for c in text if c.isalnum() or c.isspace()) or text
    if rng.random() < 0.3:
        plain = rng.choice(["嗯", "那个", "就是", "喂", "呃"]) + plain
    return plain


def traditional(text: str, rng: random.Random) -> str:
    """Write in traditional characters."""
    return str(_traditional().convert(text))


def full_width(text: str, rng: random.Random) -> str:
    """Write Latin letters, digits and marks in full width."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


FAMILIES: dict[str, Noise] = {
    f.__name__: f
    for f in (
        homophone, pinyin, initials, punctuate, drop, double, swap, unpunctuated, traditional, full_width,
    )
}  # fmt: skip


def perturb(text: str, rng: random.Random, share: float = 0.5) -> str:
    """Return the text with one or two families of noise, or, with probability 1 - share, as it is.

    >>> perturb("别再给我发了", random.Random(4), share=0.0)
    '别再给我发了'
    """
    if rng.random() >= share or not text.strip():
        return text
    for noise in rng.sample(list(FAMILIES.values()), rng.choice([1, 1, 2])):
        text = noise(text, rng) or text
    return text

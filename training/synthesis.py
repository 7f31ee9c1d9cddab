"""Perturb messages as thumbs, input methods, microphones and filter-dodgers do. Seeded; labels stay true.

Every family is a function of (text, rng) → text. Normalisation undoes some of them on purpose (spaces, width,
traditional characters): scoring them apart shows that it does.
"""

import random
import tomllib
from collections import defaultdict
from collections.abc import Callable, Container, Iterator
from functools import lru_cache
from pathlib import Path

import opencc
from pypinyin import Style, lazy_pinyin

Noise = Callable[[str, random.Random], str]
TABLES = tomllib.loads(Path(__file__).with_name("noise.toml").read_text(encoding="utf-8"))
NEGATIONS = "不没别勿莫未"  # lost by a thumb, they would turn the meaning round
SMS_LENGTH = 70  # characters of one UCS-2 message (3GPP TS 23.038); what came after may be lost


@lru_cache(maxsize=1)
def _sounds() -> dict[str, list[str]]:
    """Common characters by their toneless syllable: what an input method offers for it."""
    table: dict[str, list[str]] = defaultdict(list)
    for char in dict.fromkeys(TABLES["common"]):
        table[lazy_pinyin(char)[0]].append(char)
    return table


def _accented(sound: str) -> Iterator[str]:
    """Yield what a toneless syllable is heard as in an accent: zhen as zen, zheng."""
    for one, other in TABLES["initials"]:
        for here, there in ((one, other), (other, one)):
            rest = sound.removeprefix(here)
            if sound.startswith(here) and not rest.startswith("h"):
                yield there + rest
    for one, other in TABLES["finals"]:
        for here, there in ((one, other), (other, one)):
            if sound.endswith(here):
                yield sound.removesuffix(here) + there


@lru_cache(maxsize=1)
def _shapes() -> dict[str, list[str]]:
    """Characters by a look-alike."""
    return {c: [o for o in group if o != c] for group in TABLES["alike"] for c in group}


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


def _replace_known(
    text: str,
    rng: random.Random,
    share: float,
    replace: Callable[[str], str],
    known: Container[str],
) -> str:
    return "".join(replace(c) if c in known and rng.random() < share else c for c in text)


def homophone(text: str, rng: random.Random) -> str:
    """Write some characters as others of the same sound: 退订 as 腿定."""

    def swap(char: str) -> str:
        others = [c for c in _sounds().get(lazy_pinyin(char)[0], []) if c != char]
        return rng.choice(others) if others else char

    return _replace_some(text, rng, 0.2, swap)


def look_alike(text: str, rng: random.Random) -> str:
    """Write some characters as others of the same shape: 再发 as 再友."""
    return _replace_known(text, rng, 0.4, lambda c: rng.choice(_shapes()[c]), _shapes())


def apart(text: str, rng: random.Random) -> str:
    """Take some characters apart: 滚 as 氵衮."""
    return _replace_known(text, rng, 0.4, TABLES["apart"].__getitem__, TABLES["apart"])


def picture(text: str, rng: random.Random) -> str:
    """Put a picture for some characters: 🐶东西."""
    return _replace_known(text, rng, 0.5, TABLES["pictures"].__getitem__, TABLES["pictures"])


def misheard(text: str, rng: random.Random) -> str:
    """Write what speech recognition hears: sounds of an accent, no marks."""
    plain = "".join(c for c in text if c.isalnum() or c.isspace()) or text

    def hear(char: str) -> str:
        sound = lazy_pinyin(char)[0]
        others = [c for s in (sound, *_accented(sound)) for c in _sounds().get(s, []) if c != char]
        return rng.choice(others) if others else char

    return _replace_some(plain, rng, 0.15, hear)


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
    """Lose a character, as hurried thumbs do; negations stay, and so do texts under six characters."""
    places = [i for i, c in enumerate(text) if c not in NEGATIONS]
    if len(text) < 6 or not places:
        return text
    place = rng.choice(places)
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


def cut_off(text: str, rng: random.Random) -> str:
    """Lose what came after the first message of a long one; shorter texts stay whole."""
    return text[: rng.randint(SMS_LENGTH, SMS_LENGTH + 20)] if len(text) > SMS_LENGTH else text


def quoting(text: str, rng: random.Random) -> str:
    """Carry the message that is answered, before or after the answer."""
    quoted = rng.choice(TABLES["quoted"])
    return rng.choice(
        [
            f"{text}//{quoted}",
            f"{quoted}\n{text}",
            f"「{quoted}」{text}",
            f"{text}\n> {quoted}",
            f"回复:{quoted} {text}",
        ]
    )


def full_width(text: str, rng: random.Random) -> str:
    """Write Latin letters, digits and marks in full width."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


FAMILIES: dict[str, Noise] = {
    f.__name__: f
    for f in (
        homophone, misheard, pinyin, initials, look_alike, apart, picture, punctuate, drop, double, swap, unpunctuated,
        cut_off, quoting, traditional, full_width,
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

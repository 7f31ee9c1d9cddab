"""Normalise a message, remembering where each character came from; fold disguises for keyword rules.

Everything that reads a message (rules, baseline, encoder, explanation) reads the normalised form, and
`Normalised.span` carries a finding back to the characters that the person typed.
"""

import csv
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import opencc

MAX_CHARACTERS = (
    20_000  # a text longer than this is refused by callers; 160 SMS segments are far less
)
LONGEST_RUN = 3  # 啊啊啊啊啊 and !!!!!! say no more than three of them do
LONG_NUMBER = 6  # digits of a run at least this long (accounts, phones, codes) are read as zeros


@dataclass(frozen=True, slots=True)
class Normalised:
    """A normalised text and, for each of its characters, the index in the original text."""

    text: str
    offsets: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the half-open span of the original text that normalised [start, end) came from.

        >>> n = normalise("Ｔ Ｄ 谢谢")
        >>> n.text, n.span(0, 2)
        ('td谢谢', (0, 3))
        """
        if start >= end:
            return (0, 0)
        return self.offsets[start], self.offsets[end - 1] + 1


@lru_cache(maxsize=1)
def _converter() -> opencc.OpenCC:
    return opencc.OpenCC("t2s")


@lru_cache(maxsize=65_536)
def _plain(char: str) -> str:
    """Return what one typed character reads as: NFKC, lower case, simplified; "" if it is invisible.

    >>> [_plain(c) for c in ["Ｔ", "訂", "①", "\\u200b", "\\n"]]
    ['t', '订', '1', '', ' ']
    """
    plain = []
    for c in unicodedata.normalize("NFKC", char).casefold():
        category = unicodedata.category(c)
        if c.isspace():
            plain.append(" ")
        elif category in ("Cf", "Cc", "Cs", "Co", "Cn") or "VARIATION SELECTOR" in unicodedata.name(
            c, ""
        ):
            continue
        elif c >= "\u3400":
            plain.append(_converter().convert(c))
        else:
            plain.append(c)
    return "".join(plain)


def _is_latin(char: str) -> bool:
    return char.isascii() and char.isalnum()


def _keeps_space(text: list[str], left: int, right: int) -> bool:
    """Say whether the blank between text[left] and text[right] parts two words, one longer than a letter.

    Blanks between Chinese characters, and within letters spaced out to slip past a filter, do not.
    """
    if left < 0 or right >= len(text) or not (_is_latin(text[left]) and _is_latin(text[right])):
        return False
    long_left = left > 0 and _is_latin(text[left - 1])
    long_right = right + 1 < len(text) and _is_latin(text[right + 1])
    return long_left or long_right


def _without_blanks(pairs: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    text = [c for c, _ in pairs]
    position = 0
    while position < len(pairs):
        if text[position] != " ":
            yield pairs[position]
            position += 1
            continue
        end = position
        while end < len(pairs) and text[end] == " ":
            end += 1
        if _keeps_space(text, position - 1, end):
            yield pairs[position]
        position = end


def _without_long_runs(pairs: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    run = 0
    for k, (c, index) in enumerate(pairs):
        run = run + 1 if k and pairs[k - 1][0] == c else 1
        if run <= LONGEST_RUN or c.isdigit():
            yield c, index


def _long_numbers_as_zeros(pairs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Replace the digits of long numbers by 0: nobody's account number should sway a label."""
    masked = list(pairs)
    start = 0
    while start < len(pairs):
        end = start
        while end < len(pairs) and "0" <= pairs[end][0] <= "9":
            end += 1
        if end - start >= LONG_NUMBER:
            masked[start:end] = [("0", index) for _, index in pairs[start:end]]
        start = max(end, start + 1)
    return masked


def normalise(text: str) -> Normalised:
    """Return the text as the classifier reads it, with the origin of every character.

    NFKC, lower case, simplified characters, invisible characters dropped, blanks kept only between
    Latin words, runs cut to three, digits of long numbers zeroed.

    >>> normalise("請\\u200b別 再 發了！！！！！").text
    '请别再发了!!!'
    >>> normalise("S T O P please, 卡号6222021234567").text
    'stop please,卡号0000000000000'
    """
    pairs = [(c, index) for index, char in enumerate(text) for c in _plain(char)]
    pairs = list(_without_long_runs(list(_without_blanks(pairs))))
    pairs = _long_numbers_as_zeros(pairs)
    return Normalised("".join(c for c, _ in pairs), tuple(index for _, index in pairs))


class Folds:
    """The fold table (data/folds.tsv): disguises that stand for a character in a keyword.

    Folding is for whole-message keyword rules only: 推定 reads as 退订 where it is all that was
    sent, and nowhere else.
    """

    def __init__(self, table: dict[str, str]) -> None:
        self.table = dict(table)
        self._longest = max((len(k) for k in table), default=1)

    @classmethod
    def read(cls, path: Path) -> "Folds":
        """Read a tab-separated table `disguise<TAB>character<TAB>kind`; raise ValueError with the line."""
        table: dict[str, str] = {}
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file, delimiter="\t"), start=1):
                if not row or row[0].startswith("#"):
                    continue
                if len(row) != 3 or not row[0] or not row[1]:
                    raise ValueError(
                        f"{path}:{number}: expected disguise, character, kind; found {row}"
                    )
                if row[0] in table:
                    raise ValueError(f"{path}:{number}: {row[0]!r} is listed twice; keep one line")
                table[row[0]] = row[1]
        return cls(table)

    def key(self, text: str) -> str:
        """Return the form that keyword rules compare: normalised, folded, letters and digits only.

        >>> Folds({"腿": "退", "辶艮": "退"}).key("【腿 订】!")
        '退订'
        """
        plain = "".join(c for c in normalise(text).text if c.isalnum() or c in self.table)
        out = []
        position = 0
        while position < len(plain):
            for size in range(min(self._longest, len(plain) - position), 0, -1):
                if (piece := plain[position : position + size]) in self.table:
                    out.append(self.table[piece])
                    position += size
                    break
            else:
                out.append(plain[position])
                position += 1
        return "".join(out)

"""Keyword rules: what a whole message says when it is a known keyword, however it is disguised."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model.text import Folds, normalise

Effect = Literal["opt_out", "resume"]
LONGEST = 40  # characters; nobody wraps a keyword in more than this


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A keyword that is the whole message: what it asks for, and the keyword as rules.toml lists it."""

    effect: Effect
    keyword: str


class Rules:
    """The keyword table of rules.toml, applied to whole messages."""

    def __init__(self, tables: list[dict[str, Any]], courtesies: list[str], folds: Folds) -> None:
        self._folds = folds
        polite = "|".join(sorted(map(re.escape, map(folds.key, courtesies)), key=len, reverse=True))
        self._words: dict[str, str] = {}
        self._patterns: list[tuple[Effect, re.Pattern[str]]] = []
        for table in tables:
            words = {folds.key(word): word for word in reversed(table["keywords"])}
            self._words |= words
            # Longest first, or T would win over TD.
            either = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
            again = r"(?P=keyword){0,4}" if table["repeats"] else ""
            pattern = rf"(?:{polite})*(?P<keyword>{either}){again}(?:{polite})*"
            self._patterns.append((table["effect"], re.compile(pattern)))

    @classmethod
    def read(cls, path: Path, folds: Folds) -> "Rules":
        """Read rules.toml; raise ValueError naming the file, the rule and what is allowed."""
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        for number, table in enumerate(document.get("rule", []), start=1):
            if set(table) != {"effect", "source", "repeats", "keywords"}:
                raise ValueError(
                    f"{path}: rule {number} needs effect, source, repeats, keywords; found {sorted(table)}"
                )
            if table["effect"] not in ("opt_out", "resume"):
                raise ValueError(f"{path}: rule {number}: effect is 'opt_out' or 'resume'")
        return cls(document["rule"], document["courtesies"], folds)

    def match(self, text: str) -> RuleHit | None:
        """Return the keyword that this whole message is, or None.

        >>> folds = Folds({"腿": "退"})
        >>> table = {"effect": "opt_out", "repeats": False, "keywords": ["T", "退订"]}
        >>> rules = Rules([table], ["谢谢"], folds)
        >>> rules.match("腿 订,谢谢!")
        RuleHit(effect='opt_out', keyword='退订')
        >>> rules.match("T恤还有货吗") is None
        True
        """
        if len(text) > LONGEST:
            return None
        literal = "".join(c for c in normalise(text).text if c.isalnum())
        # The literal form first: folding must not turn a keyword (恢复订阅) or a courtesy into something else.
        for key in (literal, self._folds.key(text)):
            for effect, pattern in self._patterns:
                if found := pattern.fullmatch(key):
                    return RuleHit(effect, self._words[found["keyword"]])
        return None

"""Keyword rules: what a whole message says when it is a known keyword, however it is disguised."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.text import Folds, normalise

Effect = Literal["opt_out", "resume"]
LONGEST = 40  # characters; nobody wraps a keyword in more than this


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A keyword that is the whole message: what it asks for, and which keyword it was."""

    effect: Effect
    keyword: str


class Rules:
    """The keyword table of rules.toml, applied to whole messages."""

    def __init__(
        self, tables: list[dict[str, object]], courtesies: list[str], folds: Folds
    ) -> None:
        self._folds = folds
        polite = "|".join(sorted(map(re.escape, map(folds.key, courtesies)), key=len, reverse=True))
        self._patterns: list[tuple[Effect, re.Pattern[str]]] = []
        for table in tables:
            # Keys drop blanks, so `stop all` and `stopall` are one; longest first, or T would win over TD.
            keys = sorted({folds.key(str(k)) for k in table["keywords"]}, key=len, reverse=True)  # type: ignore[attr-defined]
            again = r"(?P=keyword){0,4}" if table["repeats"] else ""
            pattern = (
                rf"(?:{polite})*(?P<keyword>{'|'.join(map(re.escape, keys))}){again}(?:{polite})*"
            )
            self._patterns.append((table["effect"], re.compile(pattern)))  # type: ignore[arg-type]

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
                    return RuleHit(effect, found["keyword"])
        return None

"""What in a reply is not the person's own: our template quoted back, what a phone or a carrier says for them.

Only what is certain is taken away: a template that stands there in full, a notice that is all of what is
left. The rest is read. A message that is an opt-out keyword is never touched.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from model.rules import Rules
from model.text import MAX_CHARACTERS, Normalised, normalise

LEAST_LITERAL = 12  # characters of a template that are not variables, as normalised
LONGEST_VARIABLE = 40
LONGEST_NOTICE = 700
_MOST_QUOTES = 3  # templates quoted in one message
_VARIABLE = re.compile(r"\$?\{[^{}]{0,40}\}|#[^#\s]{1,40}#|%s")  # ${name} {1} #code# %s
_SIGNATURE = re.compile(r"【[^】]{1,30}】$")
_NOTICES = Path(__file__).with_name("echoes.toml")


class TemplateFault(ValueError):
    """A template cannot be told from what a person might write."""


@dataclass(frozen=True, slots=True)
class Subtracted:
    """A stretch [start, end) of the text that is not the person's: its kind, and the template's id."""

    kind: str  # template, auto_reply, one_time_code, carrier_notice, platform_notice
    start: int
    end: int
    template: str | None = None

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"kind": self.kind, "span": [self.start, self.end]}
        return row | ({"template": self.template} if self.template else {})


@dataclass(frozen=True, slots=True)
class Heard:
    """The person's own words, for each character its place in the text, and what was taken away."""

    text: str
    offsets: tuple[int, ...]
    subtracted: tuple[Subtracted, ...] = ()

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the text that [start, end) of the words came from."""
        return (self.offsets[start], self.offsets[end - 1] + 1) if start < end else (0, 0)


@dataclass(frozen=True)
class Template:
    """A message that we send: its literal pieces, normalised, in order. Variables stand between them."""

    pieces: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Template":
        """Read a template with variables as ${name}, {1}, #code# or %s; raise TemplateFault.

        >>> Template.of("【某某】${name}，全场五折，退订回T")
        Template(pieces=('【某某】', ',全场五折,退订回t'))
        """
        pieces = tuple(p for p in (normalise(part).text for part in _VARIABLE.split(text)) if p)
        if sum(map(len, pieces)) < LEAST_LITERAL:
            raise TemplateFault(
                f"a template needs {LEAST_LITERAL} characters besides its variables: a shorter one "
                "might be what a person writes"
            )
        return cls(pieces)

    def find(self, text: str) -> tuple[int, int] | None:
        """Return where a normalised text holds the whole template; None if nowhere, or not for certain."""
        first = text.find(self.pieces[0])
        while first >= 0:
            end = first + len(self.pieces[0])
            for piece in self.pieces[1:]:
                at = text.find(piece, end, end + LONGEST_VARIABLE + len(piece))
                if at < 0:
                    break
                end = at + len(piece)
            else:
                signature = _SIGNATURE.search(
                    text, 0, first
                )  # platforms put it before what we wrote
                return (signature.start() if signature else first), end
            first = text.find(self.pieces[0], first + 1)
        return None


@dataclass(frozen=True)
class Notice:
    """A line of echoes.toml: what phones, carriers and platforms say by themselves."""

    kind: str
    patterns: tuple[re.Pattern[str], ...]
    unless: re.Pattern[str] | None
    examples: tuple[str, ...]
    words: tuple[str, ...]

    def is_all_of(self, text: str) -> bool:
        if self.unless is not None and self.unless.search(text):
            return False
        return any(pattern.fullmatch(text) for pattern in self.patterns)


@lru_cache(maxsize=1)
def notices() -> tuple[Notice, ...]:
    """Return the notices of echoes.toml."""
    document = tomllib.loads(_NOTICES.read_text(encoding="utf-8"))
    return tuple(
        Notice(
            kind=table["kind"],
            patterns=tuple(map(re.compile, table["patterns"])),
            unless=re.compile(table["unless"]) if "unless" in table else None,
            examples=tuple(table["examples"]),
            words=tuple(table["words"]),
        )
        for table in document["echo"]
    )


class Echoes:
    """The filter, for one set of templates by id."""

    def __init__(self, rules: Rules, templates: Mapping[str, str]) -> None:
        self._rules = rules
        read = [(id_, Template.of(text)) for id_, text in templates.items()]
        # The longest first: one template may begin as another ends.
        self._templates = sorted(read, key=lambda t: -sum(map(len, t[1].pieces)))

    def heard(self, text: str) -> Heard:
        """Return the person's own words in a text.

        >>> from model.text import Folds
        >>> rules = Rules([{"effect": "opt_out", "repeats": False, "keywords": ["TD"]}], [], Folds({}))
        >>> echoes = Echoes(rules, {"tp_1": "全场五折,今晚截止,退订回T"})
        >>> heard = echoes.heard("【某某】全场五折，今晚截止，退订回T TD")
        >>> heard.text, heard.span(0, 2), heard.subtracted[0].template
        ('TD', (19, 21), 'tp_1')
        """
        whole = Heard(text, tuple(range(len(text))))
        if len(text) > MAX_CHARACTERS or self._rules.match(text) is not None:
            return whole
        heard = whole
        for _ in range(_MOST_QUOTES):
            shorter = self._without_template(heard)
            if shorter is None:
                break
            heard = shorter
        return self._without_notice(heard)

    def _without_template(self, heard: Heard) -> Heard | None:
        normal = normalise(heard.text)
        for template_id, template in self._templates:
            if found := template.find(normal.text):
                return _cut(heard, normal, found, "template", template_id)
        return None

    def _without_notice(self, heard: Heard) -> Heard:
        normal = normalise(heard.text)
        if not normal.text or len(normal.text) > LONGEST_NOTICE:
            return heard
        kind = next((n.kind for n in notices() if n.is_all_of(normal.text)), None)
        # What is left beside a quotation may be a keyword of its own.
        if kind is None or self._rules.match(heard.text) is not None:
            return heard
        return _cut(heard, normal, (0, len(normal.text)), kind)


def _cut(
    heard: Heard, normal: Normalised, found: tuple[int, int], kind: str, template: str | None = None
) -> Heard:
    """Take a stretch of the normalised words away; the words on both sides stay apart."""
    start, end = normal.span(*found)

    def trimmed(begin: int, stop: int) -> range:
        side = heard.text[begin:stop]
        return range(begin + len(side) - len(side.lstrip()), begin + len(side.rstrip()))

    left, right = trimmed(0, start), trimmed(end, len(heard.text))
    joint = [start] if left and right else []
    places = [*left, *joint, *right]
    return Heard(
        text="".join("\n" if k in joint else heard.text[k] for k in places),
        offsets=tuple(heard.offsets[k] for k in places),
        subtracted=(*heard.subtracted, Subtracted(kind, *heard.span(start, end), template)),
    )

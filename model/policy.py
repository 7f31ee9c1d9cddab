"""From scores to a decision: which action, which queue, by when, and why. Pure: values in, values out."""

import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import chinese_calendar

from model.labels import Schema
from model.rules import RuleHit

Action = Literal["suppress", "hold", "review", "route", "none"]
CHINA = timezone(timedelta(hours=8), "CST")
OPT_OUT = "opt_out"


@dataclass(frozen=True, slots=True)
class Due:
    """A deadline relative to the moment a message came in.

    >>> Due.parse("7 working days").at(datetime(2026, 9, 30, 10, tzinfo=CHINA)).date().isoformat()
    '2026-10-15'
    """

    amount: int
    unit: Literal["now", "days", "working days"]

    @classmethod
    def parse(cls, text: str) -> "Due":
        """Read "now", "15 days" or "1 working day"; raise ValueError saying so."""
        words = text.split(maxsplit=1)
        if text == "now":
            return cls(0, "now")
        if len(words) == 2 and words[0].isdigit():
            unit = words[1].rstrip("s") + "s"
            if unit in ("days", "working days"):
                return cls(int(words[0]), unit)  # type: ignore[arg-type]
        raise ValueError(f'due is "now", "15 days" or "3 working days"; found {text!r}')

    def __str__(self) -> str:
        return (
            "now"
            if self.unit == "now"
            else f"{self.amount} {self.unit.rstrip('s') if self.amount == 1 else self.unit}"
        )

    def at(self, received: datetime) -> datetime:
        """Return the deadline in UTC, counted in China's calendar days after the day of receipt."""
        moment = received.astimezone(CHINA)
        if self.unit == "days":
            moment += timedelta(days=self.amount)
        elif self.unit == "working days":
            left = self.amount
            while left:
                moment += timedelta(days=1)
                left -= _is_working_day(moment.date())
        return moment.astimezone(UTC)


@lru_cache(maxsize=400)  # every reply asks about the same few days, and the library looks long
def _is_working_day(day: date) -> bool:
    try:
        return bool(chinese_calendar.is_workday(day))
    except (
        NotImplementedError
    ):  # next year's holidays are not yet decreed, or the library is older than they are
        return day.weekday() < 5


@dataclass(frozen=True, slots=True)
class Route:
    """Where a label (or an unsure score) sends a message, and what to tell the person who opens it."""

    queue: str
    priority: int
    due: Due
    note: str = ""
    label: str = ""
    min_recall: float | None = None  # calibration aims at this share of the label found ...
    max_false_alarms: float = 1.0  # ... with at most this share of other messages taken for it


@dataclass(frozen=True)
class Policy:
    """policy.toml: the risk that the owner states, and the routes in order of urgency."""

    max_wrong: float
    confidence: float
    scope: str
    hold_max_wrong: float
    hold_confidence: float
    hold: Route
    review_from: float
    review: Route
    routes: tuple[Route, ...]

    @classmethod
    def read(cls, path: Path, schema: Schema) -> "Policy":
        """Read policy.toml; raise ValueError naming the file, the key and what is allowed."""
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        try:
            policy = cls._from(document)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        for route in policy.routes:
            schema.index(route.label)
        for key, share in [
            ("suppress.max_wrong", policy.max_wrong),
            ("suppress.confidence", policy.confidence),
            ("hold.max_wrong", policy.hold_max_wrong),
            ("review.from", policy.review_from),
        ]:
            if not 0 < share < 1:
                raise ValueError(f"{path}: {key} is {share}; it is a share between 0 and 1")
        return policy

    @classmethod
    def _from(cls, document: dict[str, Any]) -> "Policy":
        suppress, hold, review = document["suppress"], document["hold"], document["review"]

        def route(table: dict[str, Any]) -> Route:
            return Route(
                queue=table["queue"],
                priority=table["priority"],
                due=Due.parse(table["due"]),
                note=table.get("note", ""),
                label=table.get("label", ""),
                min_recall=table.get("min_recall"),
                max_false_alarms=table.get("max_false_alarms", 1.0),
            )

        return cls(
            max_wrong=suppress["max_wrong"],
            confidence=suppress["confidence"],
            scope=suppress["scope"],
            hold_max_wrong=hold["max_wrong"],
            hold_confidence=hold["confidence"],
            hold=route(hold),
            review_from=review["from"],
            review=route(review),
            routes=tuple(route(table) for table in document["route"]),
        )


@dataclass(frozen=True)
class Thresholds:
    """Calibrated cut-offs, as probabilities. `suppress` is None where the evidence is too small for the promise."""

    labels: dict[str, float]
    suppress: float | None
    hold: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with one message. `label` is the one that decided (its span explains the decision)."""

    action: Action
    labels: tuple[str, ...]
    queue: str | None
    priority: int | None
    due: Due | None
    scope: str | None
    reason: str
    label: str | None


def decide(
    scores: dict[str, float], hit: RuleHit | None, thresholds: Thresholds, policy: Policy
) -> Decision:
    """Return the decision for calibrated scores and a keyword hit.

    A keyword decides an opt-out by itself; else the model's score does. Whatever happens to the list, the
    most urgent other label still names the queue: a person in despair who also wrote 别发了 is called.
    """
    labels = [name for name, p in scores.items() if p >= thresholds.labels[name]]
    resumes = hit is not None and hit.effect == "resume"
    keyword = hit is not None and hit.effect == "opt_out"
    if keyword and OPT_OUT not in labels:
        labels.insert(0, OPT_OUT)
    if resumes:
        labels = [name for name in labels if name != OPT_OUT]
    route = next((r for r in policy.routes if r.label in labels), None)
    p = scores.get(OPT_OUT, 0.0)
    if keyword:
        action: Action = "suppress"
        reason = f"关键词「{hit.keyword}」;模型 {p:.2f}" if hit else ""
    elif resumes:
        return Decision(
            "none",
            tuple(labels),
            None,
            None,
            None,
            None,
            f"恢复接收关键词「{hit.keyword}」" if hit else "",
            None,
        )
    elif thresholds.suppress is not None and p >= thresholds.suppress:
        action, reason = (
            "suppress",
            f"模型判为退订 {p:.2f},不低于自动阈值 {thresholds.suppress:.2f}",
        )
    elif p >= thresholds.hold:
        action, reason = "hold", f"疑似退订 {p:.2f},先暂停营销短信,待人工确认"
        if route is None or route.priority > policy.hold.priority:
            route = policy.hold
    else:
        return _decide_rest(scores, labels, route, thresholds, policy)
    if action == "suppress" and OPT_OUT not in labels:
        labels.insert(0, OPT_OUT)
    if route is not None and route.note:
        reason += f";{route.note}"
    return Decision(
        action,
        tuple(labels),
        route.queue if route else None,
        route.priority if route else None,
        route.due if route else None,
        policy.scope,
        reason,
        OPT_OUT,
    )


def _decide_rest(
    scores: dict[str, float],
    labels: list[str],
    route: Route | None,
    thresholds: Thresholds,
    policy: Policy,
) -> Decision:
    """Return the decision for a message that is no opt-out: routed, unsure, or nothing to do."""
    if route is not None:
        p = scores[route.label]
        reason = f"{route.note} {p:.2f}"
        return Decision(
            "route",
            tuple(labels),
            route.queue,
            route.priority,
            route.due,
            None,
            reason,
            route.label,
        )
    unsure = max(scores, key=lambda name: scores[name] - thresholds.labels[name], default=None)
    if unsure is not None and scores[unsure] >= policy.review_from:
        review = policy.review
        reason = f"不确定是否为 {unsure}({scores[unsure]:.2f}),请人工查看"
        return Decision(
            "review", tuple(labels), review.queue, review.priority, review.due, None, reason, unsure
        )
    return Decision("none", tuple(labels), None, None, None, None, "无需处理", None)


def undecided(policy: Policy) -> Decision:
    """Return the decision for a message that no model could read: a person looks at it."""
    review = policy.review
    return Decision(
        "review",
        (),
        review.queue,
        review.priority,
        review.due,
        None,
        "模型不可用,仅识别关键词,请人工查看",
        None,
    )

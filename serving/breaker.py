"""The breaker's arithmetic: is the share of opt-outs among the latest replies still the usual one?

What is watched is a row of yes and no, one for each reply (`Watch.counted`). The latest `window` of them are
compared with the share among those that came before, of which about 20 windows are remembered. The breaker
opens where both hold:

- the odds of yes in the window are more than `factor` times the usual odds (for small shares that is the
  ratio of shares; a share that is usually 60 % counts as a flood at 82 %, with a factor of 3);
- at the usual share so many would come with a chance below one in a million (exact binomial tail).

Until `history` replies lie before the window it stays quiet. What leaves the window while the breaker is open
does not become usual. It closes once the odds are no more than √factor times the usual ones. Pure: values in,
values out; `guard.py` keeps the values and acts on them.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

CHANCE = 1e-6
MEMORY = 20  # windows
LEAST = 0.01  # a rarer yes counts as this: a handful of people is no flood


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is too much (TINGXIN_BREAKER_…)."""

    window: int  # replies
    factor: float  # of the odds
    history: int  # replies before the window


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of one row of yes and no. `latest` holds the window, oldest first, as "0" and "1"."""

    name: str
    latest: str = ""
    usual_yes: float = 0.0
    usual_seen: float = 0.0
    opened_at: datetime | None = None
    held: int = 0  # numbers held by the model since it opened

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None

    @property
    def yes(self) -> int:
        return self.latest.count("1")

    @property
    def share(self) -> float:
        """The share of yes in the window; 0 where it is empty."""
        return self.yes / len(self.latest) if self.latest else 0.0

    @property
    def usual(self) -> float:
        """The share of yes before the window, taken a little high where little is known."""
        return max((self.usual_yes + 1) / (self.usual_seen + 2), LEAST)

    def counted(self, is_yes: bool, at: datetime, limits: Limits) -> "Watch":
        """Return the watch after one more reply, opened or closed where its rules say so.

        >>> from datetime import UTC
        >>> limits, at = Limits(window=100, factor=3, history=100), datetime(2026, 1, 1, tzinfo=UTC)
        >>> watch = Watch("model")
        >>> for n in range(2000):
        ...     watch = watch.counted(n % 20 == 0, at, limits)
        >>> watch.is_open, watch.usual < 0.06
        (False, True)
        >>> for _ in range(30):
        ...     watch = watch.counted(True, at, limits)
        >>> watch.is_open
        True
        """
        watch = replace(self, latest=self.latest + "01"[is_yes])
        while len(watch.latest) > limits.window:
            watch = watch._forgot_oldest(limits)
        if watch.is_open:
            is_usual = _odds(watch.share) <= math.sqrt(limits.factor) * _odds(watch.usual)
            return replace(watch, opened_at=None, held=0) if is_usual else watch
        if watch.usual_seen >= limits.history and watch._is_flooded(limits.factor):
            return replace(watch, opened_at=at, held=0)
        return watch

    def closed(self, is_new_usual: bool, limits: Limits) -> "Watch":
        """Return the watch as a person closes it: the window is forgotten, or is what is usual from now on."""
        watch = replace(self, latest="", opened_at=None, held=0)
        if is_new_usual:
            weight = max(limits.history, len(self.latest))
            return replace(watch, usual_yes=self.share * weight, usual_seen=weight)
        return watch

    def facts(self) -> dict[str, Any]:
        """Return what receipts, logs and people are told of it."""
        return {
            "watch": self.name,
            "yes": self.yes,
            "of": len(self.latest),
            "usual_share": round(self.usual, 4),
            "history": round(self.usual_seen),
            "opened_at": self.opened_at.isoformat() if self.opened_at else None,
            "held": self.held,
        }

    def _forgot_oldest(self, limits: Limits) -> "Watch":
        latest = self.latest[1:]
        if self.is_open:
            return replace(self, latest=latest)
        memory = MEMORY * limits.window
        fading = min(1.0, (memory - 1) / self.usual_seen) if self.usual_seen else 1.0
        return replace(
            self,
            latest=latest,
            usual_yes=self.usual_yes * fading + (self.latest[0] == "1"),
            usual_seen=self.usual_seen * fading + 1,
        )

    def _is_flooded(self, factor: float) -> bool:
        if _odds(self.share) <= factor * _odds(self.usual):
            return False
        return tail(self.yes, len(self.latest), self.usual) < CHANCE


def tail(k: int, n: int, p: float) -> float:
    """Return the chance of k or more among n, each with chance p.

    >>> round(tail(3, 3, 0.1), 6), tail(0, 5, 0.1)
    (0.001, 1.0)
    """
    if k <= 0:
        return 1.0
    if k < n * p:  # the terms from here on would begin too small to be told from 0
        return 1 - tail(n - k + 1, n, 1 - p)
    choices = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = math.exp(choices + k * math.log(p) + (n - k) * math.log1p(-p))
    total = 0.0
    for i in range(k, n + 1):
        total += term
        term *= (n - i) / (i + 1) * p / (1 - p)
    return min(total, 1.0)


def _odds(share: float) -> float:
    return math.inf if share >= 1 else share / (1 - share)

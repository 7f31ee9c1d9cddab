"""How often the breaker opens where nothing is wrong, and how soon where something is. Arithmetic only.

    python benchmarks/breaker.py          # seeded; the table of benchmarks/README.md

Ordinary traffic is never a coin that is tossed again and again: each campaign draws opt-outs of its own. A
campaign here is 50 to 2,000 replies in a row, whose odds are the usual ones times a log-normal factor.
"""

import math
import random
from datetime import UTC, datetime

from serving.breaker import Limits, Watch

LIMITS = Limits(window=500, factor=3.0, history=2000)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def alarms(share: float, spread: float, replies: int, seed: int) -> int:
    """Return how often the breaker opens over so many ordinary replies."""
    random.seed(seed)
    watch, opened, left, p = Watch("model"), 0, 0, share
    for _ in range(replies):
        if not left:
            left = random.randint(50, 2000)
            odds = share / (1 - share) * math.exp(random.gauss(0, spread))
            p = odds / (1 + odds)
        left -= 1
        before = watch
        watch = watch.counted(random.random() < p, AT, LIMITS)
        opened += watch.is_open and not before.is_open
    return opened


def until_open(share: float, flood: float, runs: int = 50) -> tuple[int, float]:
    """Return after how many replies of a flood it opens (the median), and in what share of runs at all."""
    waits = []
    for seed in range(runs):
        random.seed(seed)
        watch = Watch("model", usual_yes=share * 10_000, usual_seen=10_000)
        for _ in range(LIMITS.window):
            watch = watch.counted(random.random() < share, AT, LIMITS)
        for n in range(1, 5001):
            watch = watch.counted(random.random() < flood, AT, LIMITS)
            if watch.is_open:
                waits.append(n)
                break
    return (sorted(waits)[len(waits) // 2] if waits else 0), len(waits) / runs


if __name__ == "__main__":
    replies = 500_000
    print("| usual share | spread of campaigns | false alarms in a million replies |")
    print("|---|---|---|")
    for share in (0.02, 0.05, 0.20, 0.60):
        for spread in (0.0, 0.3, 0.5):
            count = alarms(share, spread, replies, seed=1)
            print(f"| {share:.0%} | {spread} | {count / replies * 1e6:.0f} |")
    print("\n| usual share | flood's share | opens after (median of those) | opens within 5,000 |")
    print("|---|---|---|---|")
    for share, flood in ((0.02, 0.1), (0.05, 0.15), (0.05, 0.3), (0.05, 1), (0.2, 1), (0.6, 1)):
        wait, found = until_open(share, flood)
        print(f"| {share:.0%} | {flood:.0%} | {wait} replies | {found:.0%} of runs |")

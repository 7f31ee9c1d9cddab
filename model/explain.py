"""Find the characters that decided: the stretch of a text that contributed most to a label's logit."""

import numpy as np
from numpy.typing import NDArray


def deciding_stretch(
    contributions: NDArray[np.float32], places: NDArray[np.int64]
) -> tuple[int, int]:
    """Return the half-open stretch of text whose tokens contributed most, given [T] values and [T, 2] places.

    The largest-sum run (Kadane) of contributions above their mean, so that a text in which everything
    speaks for the label still yields its strongest part.

    >>> deciding_stretch(np.array([0, .1, 2, 1.5, 0], "f4"), np.array([(0, 0), (0, 1), (1, 2), (2, 3), (0, 0)]))
    (1, 3)
    """
    real = np.flatnonzero(places[:, 1] > places[:, 0])
    if not len(real):
        return (0, 0)
    values = contributions[real] - max(0.0, float(contributions[real].mean()))
    best, best_run = -np.inf, (0, 0)
    total, start = 0.0, 0
    for k, value in enumerate(values):
        if total <= 0:
            total, start = 0.0, k
        total += float(value)
        if total > best:
            best, best_run = total, (start, k)
    first, last = best_run
    return int(places[real[first], 0]), int(places[real[last], 1])

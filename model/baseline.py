"""The baseline that every bundle must beat: jieba words, TF-IDF, one logistic regression per label.

Also the two keyword filters that SMS platforms use today, as a measure of what a list can do.
"""

import logging
import re
import tempfile
from collections.abc import Sequence

import jieba
import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from model.text import normalise

jieba.setLogLevel(logging.WARNING)
# jieba's default cache is a predictable name in the shared temporary folder, which anyone may plant.
jieba.dt.tmp_dir = tempfile.mkdtemp(prefix="tingxin-jieba-")

EXACT = frozenset({"T", "TD", "N", "R", "QX", "0000", "退订", "STOP"})
SUBSTRING = re.compile(
    r"退订|取消订阅|拒收|别发|不要发|停止发送|TD|STOP|unsubscribe", re.IGNORECASE
)


def words(text: str) -> list[str]:
    """Return jieba's words of a normalised text, and its characters: short replies hold few words.

    >>> words("太频繁了")
    ['太', '频繁', '了', '太', '频', '繁', '了']
    """
    plain = normalise(text).text
    return [*jieba.cut(plain, HMM=False), *plain]


def build() -> Pipeline:
    """Return the untrained baseline: texts in, 0/1 matrix [N, C] out of `predict`."""
    return make_pipeline(
        TfidfVectorizer(analyzer=words, sublinear_tf=True, min_df=2),
        OneVsRestClassifier(LogisticRegression(C=20, class_weight="balanced", max_iter=1000)),
    )


def exact_filter(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Say for each text whether a list of exact keywords takes it for an opt-out."""
    return np.array([text.strip().upper() in EXACT for text in texts])


def substring_filter(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Say for each text whether a filter that searches for keywords anywhere takes it for an opt-out."""
    return np.array([SUBSTRING.search(text) is not None for text in texts])

import numpy as np
import pytest

from model import baseline


def test_the_baseline_learns_words():
    texts = ["别再发了", "不要发短信", "好的谢谢", "明天去取"] * 6
    truth = np.array([[1], [1], [0], [0]] * 6)
    found = baseline.build().fit(texts, truth).predict(["请别发短信", "谢谢明天见"])
    assert found.ravel().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "exact", "substring"),
    [
        ("td ", True, True),
        ("退订流量包", False, True),
        ("让我清静点", False, False),
        ("T恤", False, False),
    ],
)
def test_filters_find_what_their_words_say(text, exact, substring):
    assert baseline.exact_filter([text])[0] == exact
    assert baseline.substring_filter([text])[0] == substring

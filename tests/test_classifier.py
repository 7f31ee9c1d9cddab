"""The shipped bundle at work. What it must get right in general is measured in docs/MODEL_CARD.md."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.classifier import Classifier, TextTooLong


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("T", {"opt_out"}),
        ("别再发了", {"opt_out"}),
        ("T恤还有货吗", set()),
        ("退订流量包", set()),
        ("不要再给我发短信了", {"opt_out"}),
        ("我没借过你们的钱", {"dispute"}),
        ("失业了实在还不起", {"hardship"}),
        ("傻逼", {"abuse"}),
        ("收到,谢谢", set()),
        ("发错人了,我不是李强", {"dispute", "wrong_recipient"}),
    ],
)
def test_plain_cases_are_read_right(classifier, text, labels):
    found = set(classifier.classify([text])[0].labels)
    intents = set(classifier.bundle.schema.intents)
    assert found & intents == labels & intents
    assert found >= labels


def test_despair_goes_to_a_person_at_once(classifier):
    (prediction,) = classifier.classify(["活着真没意思,不想活了"])
    assert "self_harm" in prediction.labels
    assert (prediction.queue, str(prediction.due)) == ("crisis", "now")


def test_answers_do_not_depend_on_their_neighbours(classifier):
    texts = [
        "别再发了",
        "我上个月就还清了,你们系统是不是有问题,请核实后回复我",
        "哦",
        "没钱还不起",
    ] * 3
    together = classifier.classify(texts)
    alone = [Classifier(classifier.bundle, classifier._scorer).classify([t])[0] for t in texts]
    for a, b in zip(together, alone, strict=True):
        assert a.action == b.action
        assert a.scores == pytest.approx(
            b.scores, abs=0.02
        )  # int8 activations are scaled per batch


def test_the_cache_answers_as_the_encoder_does(classifier):
    first = classifier.classify(["请不要再联系我"])
    assert classifier.classify(["请不要再联系我"]) == first


def test_the_span_lies_where_the_decision_was_made(classifier):
    text = "你好,我想问一下账单的事,另外以后别再给我发广告了,谢谢"
    (prediction,) = classifier.classify([text])
    start, end = prediction.span
    assert set(text[start:end]) & set("别再给我发广告了")
    assert 0 <= start < end <= len(text)


def test_a_span_counts_characters_of_the_original(classifier):
    text = "\u200b\u200b　　退 　訂"
    (prediction,) = classifier.classify([text])
    start, end = prediction.span
    assert text[start:end] == "退 　訂"


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\n\t"])
def test_blank_texts_say_nothing(classifier, text):
    (prediction,) = classifier.classify([text])
    assert (prediction.labels, prediction.action, prediction.span) == ((), "none", (0, 0))


def test_a_text_too_long_is_refused_by_number_and_not_quoted(classifier):
    with pytest.raises(TextTooLong, match="text 2 has 30000 characters") as caught:
        classifier.classify(["T", "密" * 30_000])
    assert "密" not in str(caught.value)


def test_of_a_long_ticket_both_ends_are_read(classifier):
    text = "今天天气不错我们一起去公园散步然后回家吃饭。" * 30 + "请退订"
    (scored,) = classifier._scorer.score([text])
    read = [text[i:j] for i, j in scored.places]
    assert len(read) <= 224
    assert "".join(read).startswith("今天天气")
    assert "".join(read).endswith("吃饭。请退订")


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=50))
def test_any_text_gets_an_answer(text):
    (prediction,) = _shared().classify([text])
    start, end = prediction.span
    assert 0 <= start <= end <= len(text)
    assert all(0 <= p <= 1 for p in prediction.scores.values())


def _shared(cache: list[Classifier] = []) -> Classifier:  # noqa: B006 - hypothesis takes no module fixture
    if not cache:
        cache.append(Classifier.load())
    return cache[0]

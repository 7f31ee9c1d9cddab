"""What is not the person's own is taken away where it is certain; all else is read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from model.rules import Rules
from model.text import Folds
from serving import tables
from serving.echoes import Echoes, Notice, Template, TemplateFault, notices
from serving.events import InboundReply
from serving.service import Service

DATA = Path(__file__).parent.parent / "data"
RULES = Rules.read(DATA / "rules.toml", Folds.read(DATA / "folds.tsv"))
SALE = "【某某商城】${name}您好,全场五折,今晚截止,点 https://a.cn/${code} 查看,退订回T"
SENT = "【某某商城】张三您好,全场五折,今晚截止,点 https://a.cn/x7Y 查看,退订回T"
ECHOES = Echoes(RULES, {"tp_sale": SALE, "tp_due": "您尾号{1}的账单已出,请于{2}前还款,拒收请回复R"})

Reply = Callable[..., InboundReply]


def words(text: str) -> str:
    return ECHOES.heard(text).text


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (SENT, ""),
        (SENT + " TD", "TD"),
        ("TD " + SENT, "TD"),
        (SENT + "退订回T", "退订回T"),
        ("别再发了\n" + SENT + "\n烦死了", "别再发了\n烦死了"),
        (SENT.replace("【某某商城】", ""), SENT.replace("【某某商城】", "")),  # not all of it
        (SENT.replace(",", "，").upper(), ""),
        ("您尾号1234的账单已出,请于9月5日前还款,拒收请回复R 我还过了", "我还过了"),
        ("【安心贷】您尾号1234的账单已出,请于9月5日前还款,拒收请回复R", ""),
        (SENT + "您尾号1234的账单已出,请于9月5日前还款,拒收请回复R 停", "停"),
        (SENT + SENT, ""),
    ],
)
def test_our_own_text_is_taken_away_and_the_rest_is_left(text: str, own: str) -> None:
    assert words(text) == own


@pytest.mark.parametrize(
    "text",
    ["TD", "退订回T", "T", "拒收请回复R", "全场五折", "点 https://a.cn/x7Y 查看,退订回T", "", " "],
)
def test_what_a_person_may_have_typed_is_read(text: str) -> None:
    assert words(text) == text


def test_a_variable_does_not_swallow_what_a_person_wrote_in_the_middle() -> None:
    text = SENT.replace("张三", "别再给我发了" * 10)
    assert words(text) == text


@pytest.mark.parametrize("text", ["退订回T", "${name}您好", "{1}{2}{3}", "", "！" * 40])
def test_a_template_too_short_to_be_told_from_a_reply_is_refused(text: str) -> None:
    with pytest.raises(TemplateFault):
        Template.of(text)


@pytest.mark.parametrize("notice", notices(), ids=lambda n: n.kind)
def test_the_examples_of_a_notice_are_silenced_and_its_words_are_read(notice: Notice) -> None:
    for example in notice.examples:
        heard = ECHOES.heard(example)
        assert (heard.text, heard.subtracted[0].kind) == ("", notice.kind), example
    assert [text for text in notice.words if words(text) != text] == []


def test_beside_a_quotation_a_notice_is_known_and_a_keyword_is_not_lost() -> None:
    assert words(SENT + " 482913") == ""
    assert words(SENT + " 0000") == "0000"


def test_no_message_of_the_corpus_with_a_label_is_silenced() -> None:
    silenced = []
    for path in sorted((DATA / "corpus").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["labels"] and words(row["text"]) != row["text"]:
                silenced.append(row["id"])
    assert silenced == []


@given(before=st.text(max_size=15), after=st.text(max_size=15))
def test_spans_lead_back_to_the_text(before: str, after: str) -> None:
    text = before + SENT + after
    heard = ECHOES.heard(text)
    for k in range(len(heard.text)):
        start, end = heard.span(k, k + 1)
        assert text[start:end] == heard.text[k] or heard.text[k] == "\n"
    covered = {k for s in heard.subtracted for k in range(s.start, s.end)}
    assert not covered & {k for k, c in zip(heard.offsets, heard.text, strict=True) if c != "\n"}


@given(st.text(max_size=60))
def test_a_strangers_text_only_ever_loses_whole_notices(text: str) -> None:
    assert words(text) in (text, "")


def read_row(service: Service, table: sa.Table) -> sa.Row:
    with service.store.read() as connection:
        return connection.execute(sa.select(table)).one()


def test_a_quotation_alone_changes_nothing_and_the_receipt_says_so(
    service: Service, reply: Reply
) -> None:
    template = service.templates.add(SALE, "李雷")
    [outcome] = service.submit([reply(1, SENT)])
    decision = outcome.decision
    assert (decision["action"], decision["labels"], decision["entries"]) == ("none", [], [])
    assert decision["reason"] == "只有引用的原文或自动消息,没有本人的话"
    assert decision["subtracted"] == [
        {"kind": "template", "span": [0, len(SENT)], "template": template["id"]}
    ]
    assert read_row(service, tables.replies).text == SENT
    assert f'"template":"{template["id"]}"' in read_row(service, tables.receipts).body


def test_words_beside_a_quotation_count_and_are_found_in_the_whole_text(
    service: Service, reply: Reply
) -> None:
    service.templates.add(SALE, "李雷")
    [outcome] = service.submit([reply(1, SENT + " 请别再发了谢谢")])
    start, end = outcome.decision["span"]
    assert outcome.decision["action"] == "suppress"
    assert (SENT + " 请别再发了谢谢")[start:end] == "别再发"
    [by_keyword] = service.submit([reply(2, SENT + " TD")])
    assert (by_keyword.decision["action"], by_keyword.decision["span"]) == (
        "suppress",
        [len(SENT) + 1, len(SENT) + 3],
    )


def test_a_template_removed_is_read_again(service: Service, reply: Reply) -> None:
    template = service.templates.add(SALE, "李雷")
    assert service.templates.remove(template["id"])
    assert not service.templates.remove(template["id"])
    [outcome] = service.submit([reply(1, SENT)])
    assert outcome.decision["subtracted"] == []

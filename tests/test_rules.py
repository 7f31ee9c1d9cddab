from pathlib import Path

import pytest

from model.rules import Rules
from model.text import Folds

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def rules() -> Rules:
    return Rules.read(DATA / "rules.toml", Folds.read(DATA / "folds.tsv"))


@pytest.mark.parametrize(
    "text",
    [
        "T", "t", "TD", "td", " T D ", "ｔｄ", "N", "R", "QX", "0000", "退订", "退 订", "退。订", "退订!!!", "退訂",
        "腿订", "褪定", "推定", "辶艮订", "tui ding", "TUIDING", "TD 谢谢", "麻烦退订,谢谢", "退订T",
        "回复TD", "退订退订",
        "stop", "S T O P", "Unsubscribe", "STOP please", "stop all", "拒收", "取消订阅", "我要退订", "请退订",
    ],
)  # fmt: skip
def test_a_keyword_alone_asks_to_stop(rules, text):
    hit = rules.match(text)
    assert hit is not None
    assert hit.effect == "opt_out"


@pytest.mark.parametrize(
    "text",
    [
        "T恤还有货吗", "TD-LTE是什么", "退订流量包", "不要退订", "我没说要退订", "怎么退订啊", "T_T", "TT",
        "NN", "no", "rt", "",
        "!!!", "😭", "NBA", "停止", "000", "取消订单", "退订酒店", "bus stop", "stop sign",
        "endless", "TDX", "谢谢", "请",
    ],
)  # fmt: skip
def test_a_keyword_within_other_words_is_no_rule(rules, text):
    assert rules.match(text) is None


@pytest.mark.parametrize(
    "text", ["START", "恢复", "恢复订阅", "订阅", "我要恢复订阅", "取消退订", "訂閱"]
)
def test_a_resume_keyword_asks_to_come_back(rules, text):
    hit = rules.match(text)
    assert hit is not None
    assert hit.effect == "resume"


def test_a_long_message_is_never_a_keyword(rules):
    assert rules.match("退订" * 21) is None


def test_an_unknown_effect_is_refused(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        'courtesies = []\n[[rule]]\neffect = "stop"\nsource = ""\nrepeats = false\nkeywords = ["T"]\n',
        encoding="utf-8",
    )
    with pytest.raises(ValueError, match="effect is 'opt_out' or 'resume'"):
        Rules.read(path, Folds({}))

import random

import pytest

from model.text import normalise
from training.synthesis import FAMILIES, perturb

TEXT = "我说了多少遍不要再给我发短信了,你们到底听不听"


@pytest.mark.parametrize("name", FAMILIES)
def test_noise_is_seeded_and_changes_something(name):
    noise = FAMILIES[name]
    source = {"full_width": "Call 10086, OK?", "cut_off": 4 * TEXT}.get(name, TEXT)
    once = noise(source, random.Random(3))
    assert once == noise(source, random.Random(3))
    assert once != source


@pytest.mark.parametrize("name", FAMILIES)
def test_noise_survives_any_text(name):
    for text in ("", "T", "退", "😀", "😀😀😀😀😀😀", " ", "a"):
        FAMILIES[name](text, random.Random(0))


@pytest.mark.parametrize("name", ["traditional", "full_width"])
def test_normalising_undoes_what_only_looks_different(name):
    assert normalise(FAMILIES[name](TEXT, random.Random(1))).text == normalise(TEXT).text


def test_perturb_leaves_the_stated_share_alone():
    rng = random.Random(0)
    same = sum(perturb(TEXT, rng, share=0.3) == TEXT for _ in range(500))
    assert 0.6 < same / 500 < 0.8
    assert perturb("  ", rng, share=0.99) == "  "

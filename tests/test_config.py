import pytest

from training.config import (
    HEAD,
    HUB_RECIPE,
    RECIPE,
    SCHOOL_RECIPE,
    Recipe,
    RecipeError,
    usual_recipe,
)


def test_the_shipped_recipe_is_valid():
    assert Recipe.read(RECIPE).epochs > 0
    assert Recipe.read(HUB_RECIPE).folds >= 2  # an encoder of the hub has not met the corpus


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("learning_rat = 1e-4", "did you mean 'learning_rate'"),
        ('epochs = "3"', "epochs is a int; found '3'"),
        ("epochs = true", "epochs is a int"),
        ("dropout = 1.0", "share in \\[0, 1\\)"),
        ("batch_size = 0", "above 0"),
        ("folds = 1", "2 or more"),
        ("folds = 0\ndistillation = 0.5", "needs cross-fitted models"),
        ("matrix_rate = -1.0", "matrix_rate is -1.0; it is 0 or above"),
        ('teacher = "hfl/chinese-macbert-base"', "would teach nothing"),
    ],
)
def test_a_faulty_recipe_is_refused(tmp_path, line, fault):
    path = tmp_path / "recipe.toml"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(RecipeError, match=fault):
        Recipe.read(path)


def test_a_whole_number_does_for_a_fraction(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("consistency = 1", encoding="utf-8")
    assert Recipe.read(path).consistency == 1


def test_the_recipe_suits_what_the_encoder_has_learned(tmp_path):
    assert usual_recipe(None) == usual_recipe("") == RECIPE
    assert usual_recipe("hfl/chinese-macbert-base") == usual_recipe(str(tmp_path)) == HUB_RECIPE
    (tmp_path / "pretraining.json").write_text("{}", encoding="utf-8")
    assert usual_recipe(str(tmp_path)) == SCHOOL_RECIPE
    (tmp_path / HEAD).write_bytes(b"")
    assert usual_recipe(str(tmp_path)) == RECIPE

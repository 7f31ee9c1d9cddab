import pytest

from training.config import RECIPE, Recipe, RecipeError


def test_the_shipped_recipe_is_valid():
    assert Recipe.read(RECIPE).folds >= 2


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("learning_rat = 1e-4", "did you mean 'learning_rate'"),
        ('epochs = "3"', "epochs is a int; found '3'"),
        ("epochs = true", "epochs is a int"),
        ("dropout = 1.0", "share in \\[0, 1\\)"),
        ("batch_size = 0", "above 0"),
        ("folds = 1", "2 or more"),
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

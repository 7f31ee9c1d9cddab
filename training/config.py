"""The training recipe: a small typed value, read once from TOML, refused early."""

import difflib
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).parent / "recipe.toml"  # for the shipped encoder
SCHOOL_RECIPE = Path(__file__).parent / "recipe_school.toml"  # for one that has met no labels
HEAD = "head.safetensors"  # beside an encoder that has learned labels: how it reads them
HUB_RECIPE = Path(__file__).parent / "recipe_hub.toml"  # for encoders of the hub's usual sizes


def usual_recipe(base: str | None) -> Path:
    """Return the recipe that suits a base: an encoder of ours with learned labels, one without, or the hub's."""
    if not base or (Path(base) / HEAD).is_file():
        return RECIPE
    return SCHOOL_RECIPE if (Path(base) / "pretraining.json").is_file() else HUB_RECIPE


class RecipeError(ValueError):
    """A recipe has an unknown key, a wrong type or a value out of range."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All dials of fine-tuning; recipe.toml says what each one is."""

    base: str = ""
    teacher: str = ""
    distillation: float = 0.0
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 4e-4
    head_learning_rate: float = 2e-3
    matrix_rate: float = 0.0
    weight_decay: float = 0.02
    warmup: float = 0.1
    dropout: float = 0.15
    label_smoothing: float = 0.02
    consistency: float = 0.5
    noise: float = 0.45
    averaging: float = 0.995
    max_length: int = 224
    folds: int = 5
    seed: int = 20261124

    @classmethod
    def read(cls, path: Path = RECIPE, **overrides: Any) -> "Recipe":
        """Read a recipe, with values that the command line overrides (None: not given).

        >>> Recipe.read(epochs=3).epochs
        3
        """
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        known = {f.name: f for f in fields(cls)}
        for key, value in values.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise RecipeError(f"{path}: key {key!r} is unknown; {hint}")
            wanted = known[key].type
            if not (type(value) is wanted or (wanted is float and type(value) is int)):
                name = getattr(wanted, "__name__", wanted)
                raise RecipeError(f"{path}: {key} is a {name}; found {value!r}")
        recipe = replace(cls(**values), **{k: v for k, v in overrides.items() if v is not None})
        recipe._check(path)
        return recipe

    def _check(self, path: Path) -> None:
        for key in ("warmup", "dropout", "label_smoothing", "noise", "averaging", "distillation"):
            if not 0 <= getattr(self, key) < 1:
                raise RecipeError(f"{path}: {key} is {getattr(self, key)}; it is a share in [0, 1)")
        for key in ("epochs", "batch_size", "learning_rate", "head_learning_rate", "max_length"):
            if getattr(self, key) <= 0:
                raise RecipeError(f"{path}: {key} is {getattr(self, key)}; it is above 0")
        for key in ("matrix_rate", "weight_decay", "consistency"):
            if getattr(self, key) < 0:
                raise RecipeError(f"{path}: {key} is {getattr(self, key)}; it is 0 or above")
        if self.teacher and not self.distillation:
            raise RecipeError(
                f"{path}: teacher is set but distillation is 0, so it would teach nothing; give it a share"
            )
        if self.folds < 0 or self.folds == 1:
            raise RecipeError(f"{path}: folds is {self.folds}; it is 0 (none) or 2 or more")
        if self.distillation and not self.folds:
            raise RecipeError(
                f"{path}: distillation needs cross-fitted models; set folds to 2 or more"
            )

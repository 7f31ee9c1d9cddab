"""Teach the small encoder with a larger one, or with models of its own kind.

A student learns more from the probabilities of a teacher than from bare labels (Hinton et al. 2015, arXiv
1503.02531), also where the teacher is no larger (born-again networks, Furlanello et al. 2018, arXiv 1805.04770).
The teacher here is always cross-fitted: its probability for a message comes from a model that saw none of the
message's family, so that it says how doubtful the message is rather than what its label was.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from model.labels import Schema
from model.scorer import probabilities
from training.config import Recipe, usual_recipe
from training.dataset import Row
from training.finetune import finetune


def cross_fit(
    rows: Sequence[Row],
    schema: Schema,
    recipe: Recipe,
    progress: Progress | None = None,
    title: str = "fold",
) -> NDArray[np.float32]:
    """Return logits [N, C] for each row from a model that saw none of its family."""
    families = sorted({row.family for row in rows})
    order = np.random.default_rng(recipe.seed).permutation(len(families))
    fold_of = {families[f]: k % recipe.folds for k, f in enumerate(order)}
    logits = np.zeros((len(rows), len(schema.names)), np.float32)
    for fold in range(recipe.folds):
        inside = [k for k, row in enumerate(rows) if fold_of[row.family] == fold]
        rest = [row for row in rows if fold_of[row.family] != fold]
        model = finetune(rest, schema, recipe, progress, f"{title} {fold + 1} of {recipe.folds}")
        logits[inside] = model.logits([rows[k].text for k in inside])
    return logits


def soft_targets(
    rows: Sequence[Row],
    schema: Schema,
    recipe: Recipe,
    own: NDArray[np.float32],
    progress: Progress | None = None,
) -> NDArray[np.float32] | None:
    """Return a teacher's probabilities [N, C] for the rows; None where the recipe wants none.

    `own`: the cross-fitted logits of the student's kind, which teach where no other teacher is named.
    """
    if not recipe.distillation:
        return None
    logits = own
    if recipe.teacher:
        own_way = Recipe.read(
            usual_recipe(recipe.teacher),
            base=recipe.teacher,
            folds=recipe.folds,
            seed=recipe.seed,
        )
        logits = cross_fit(rows, schema, own_way, progress, "teacher, fold")
    return probabilities(logits).astype(np.float32)

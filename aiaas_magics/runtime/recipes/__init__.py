"""Built-in recipes: training without writing any.

Importing this costs neither torch nor transformers; a recipe's `train` does, in the run.
"""

from __future__ import annotations

import difflib

from aiaas_hub.schemas.errors import InvalidInput
from aiaas_magics.runtime.recipes import parameters
from aiaas_magics.runtime.recipes.recipe import Recipe

__all__ = ["RECIPES", "Recipe", "find"]

_HERE = "aiaas_magics.runtime.recipes"

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "tabular",
            "classes or numbers from the columns of a table, by a small network",
            parameters.Tabular,
            "one table with a column to predict and columns of numbers or texts to predict from; "
            "missing values are filled in.",
            "one input per column, of shape (rows, 1): float32 as in the table; for a column of "
            "texts int64 with the text's code, which the run's log lists (0 for any other).",
            f"{_HERE}.tabular",
        ),
        Recipe(
            "image-classifier",
            "classes from images, by a convolutional network",
            parameters.ImageClassifier,
            "one table with a column of classes and the images as lists of pixels or as one "
            "column per pixel.",
            "pixels as float32 of shape (rows, channels, height, width), in the dataset's scale.",
            f"{_HERE}.image_classifier",
        ),
        Recipe(
            "text-classifier",
            "classes from texts, by fine-tuning an encoder of the BERT family",
            parameters.TextClassifier,
            "one table with a column of texts and a column of classes.",
            "a text or a list of them: endpoint.classify(['…', '…']) gives the names of the "
            "classes, endpoint.predict(…) the numbers too. The tokenizer is served with the model.",
            f"{_HERE}.text_classifier",
        ),
        Recipe(
            "causal-lm",
            "how texts go on, by training a model of the GPT family in full or with LoRA",
            parameters.CausalLM,
            "one table with a column of texts; they are packed into blocks of equal length.",
            "a text: endpoint.generate('…') goes on with it, endpoint.stream('…') piece by piece. "
            "The tokenizer is served with the model; without `model` its tokens are the bytes.",
            f"{_HERE}.causal_lm",
        ),
    )
}
"""Name → recipe."""


def find(name: str) -> Recipe:
    """Raises `InvalidInput` with the nearest name if there is no such recipe."""
    recipe = RECIPES.get(name)
    if recipe is None:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise InvalidInput(
            f"There is no recipe {name!r}{meant}.",
            remedy=f"Use one of: {', '.join(RECIPES)}. '%aiaas help recipe NAME' describes it.",
        )
    return recipe

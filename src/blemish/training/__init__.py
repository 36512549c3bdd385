"""Training a method's prompts on a frozen backbone: features computed once, a loop that survives a kill, cards and logs."""

from blemish.training.recipe import Recipe, recipe_of
from blemish.training.run import Trained, train

__all__ = ["Recipe", "Trained", "recipe_of", "train"]

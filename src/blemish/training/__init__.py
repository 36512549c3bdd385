"""Training a method's prompts on a frozen backbone: features computed once, a loop that survives a kill, cards and logs."""

from blemish.training.recipe import Recipe, Reporter, recipe_of
from blemish.training.run import Trained, train

__all__ = ["Recipe", "Reporter", "Trained", "recipe_of", "train"]

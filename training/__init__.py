"""Recipes that make what ships in the wheel. Not part of the installed package."""

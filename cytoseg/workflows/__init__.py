"""Steps shared by commands: from a recipe to slides, crops and networks."""

"""What commands share: from a recipe to slides, crops, methods and trained networks."""

"""Commands that the app starts as processes of their own: their table, their turns, their progress."""

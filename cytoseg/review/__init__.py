"""What reviewers say of a run: their log, and how far they agree."""

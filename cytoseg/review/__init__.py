"""Reviewing: the log, sign-offs and inter-rater agreement."""

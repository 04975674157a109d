"""Scores and speed."""

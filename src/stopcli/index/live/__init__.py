"""Searching what arrives."""

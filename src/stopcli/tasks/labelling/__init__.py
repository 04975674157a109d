"""Labels that a person gives: their table, its rows, and what it has no columns for."""

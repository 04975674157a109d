"""Labels as other tools keep them: a module for each format."""

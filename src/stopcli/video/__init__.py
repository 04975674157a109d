"""Videos: which files, which frames, which pixels."""

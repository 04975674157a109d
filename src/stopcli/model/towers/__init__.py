"""CLIP of the original kind without open_clip: importing that takes as long as all the rest together."""

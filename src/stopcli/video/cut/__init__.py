"""A moment of a video as a file of its own."""

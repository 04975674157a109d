"""Decoding in processes of its own: a file that crashes, blocks or fills the memory takes nothing with it."""

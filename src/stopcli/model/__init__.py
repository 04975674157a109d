"""The STOP model: frozen CLIP, four trained prompt modules."""

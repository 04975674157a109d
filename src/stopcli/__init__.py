"""Label, search, embed and adapt your own videos, locally, with CLIP and STOP prompts."""

__version__ = "0.1.0"

"""The page and its JSON over HTTP, on one's own machine."""

"""Records to stdout, pages and pictures."""

"""The ``stop`` command."""

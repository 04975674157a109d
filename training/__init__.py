"""How mini and the figures in docs/ were made: ``python -m training.…`` from the root of the checkout."""

"""The protocols that train: models made from few clips, and what they say of the rest."""

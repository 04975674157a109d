"""What a training is worth: scores of held-out clips, and what was given up for them."""

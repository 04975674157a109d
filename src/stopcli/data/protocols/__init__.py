"""What the papers ask of public data sets, read as it is published."""

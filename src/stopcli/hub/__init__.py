"""Names of models to files, and files to the Hub."""

"""An index that is more than one process makes, or one folder holds."""

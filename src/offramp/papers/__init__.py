"""Published tables and recipes, as data."""

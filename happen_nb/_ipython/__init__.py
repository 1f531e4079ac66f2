"""The IPython extension: completion and the magic."""

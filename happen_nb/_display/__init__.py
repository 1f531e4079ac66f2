"""The displays of everything that a cell can end with: as text, as HTML, or as both at once."""

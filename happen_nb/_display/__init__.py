"""How everything a cell can end with is shown: as text, as HTML, or as both at once."""

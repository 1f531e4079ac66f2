"""Widgets: what follows a space in the browser. Imported when the first one is made."""

"""The dashboard of a space: the widget, the actions that it offers, and the messages to the browser."""

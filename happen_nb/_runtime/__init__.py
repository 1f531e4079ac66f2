"""One space at work, between the journal and the facade: states in memory, events, handlers and replies."""

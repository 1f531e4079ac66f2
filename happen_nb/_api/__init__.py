"""The public classes: spaces, nodes, states, views, events, replies, histories, failures."""

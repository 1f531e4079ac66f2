"""What a user holds: spaces, nodes, states, views, events, replies, and what came of them."""

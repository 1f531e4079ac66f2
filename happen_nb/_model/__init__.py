"""The pure model: no IO, no threads, no NATS."""

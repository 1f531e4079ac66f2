"""The journal: the only code that speaks NATS."""

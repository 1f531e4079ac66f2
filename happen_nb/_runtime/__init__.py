"""What runs between the journal and the facade: the IO thread, the replica, callbacks."""

"""What keeps one nats-server for a store: the standard library only, and nothing slow to import.

=============== ==========================================================================================
module          subject
=============== ==========================================================================================
``main``        the supervisor: takes the lock, serves, restarts the server, ends when nobody is left
``members``     the sockets of the kernels that use the server
``nats``        the nats-server process
``hints``       ``server.json``: where the server is, for those who may read it
``lock``        who may serve a store; ending an orphan; removing what a killed kernel left
``belongings``  which files in a folder are the server's own: only those are replaced or removed
``disk``        whether the disk is full, and when there is room again
``system``      what differs between operating systems
=============== ==========================================================================================

The lock is the only authority: the supervisor holds it, and nats-server inherits it, so it is free only
when both are gone. Everything in ``server.json`` is a hint that may be stale or missing.
"""

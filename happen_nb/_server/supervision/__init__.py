"""The supervisor, which keeps one nats-server running for a store.

It uses the standard library only, and no module that is slow to import.

================ ==========================================================================================
module           subject
================ ==========================================================================================
``main``         the supervisor: takes the lock, restarts nats-server, ends with the last kernel
``nats``         the nats-server process, its log, and a full disk
``store_folder`` the folder of a store: its lock, ``server.json``, and its other files; cleaning up after
                 killed processes
``platform``     differences between operating systems, and private files
================ ==========================================================================================

The lock is the only authority: the supervisor holds it and nats-server inherits it, so it is free only
after both have ended. Everything in ``server.json`` is a hint that may be stale or missing.
"""

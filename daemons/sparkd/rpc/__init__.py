"""Wires.

control   sparkd's own connection between masters and workers: frames, handshake, limits
messages  what goes over it, as typed values
server    the master's side of it
commands  what the core wants of a worker, as messages
"""

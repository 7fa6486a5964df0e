"""Pure: entities, transitions, scheduling, recovery. Nothing here does I/O, reads a clock, draws a random number or logs."""

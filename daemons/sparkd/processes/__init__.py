"""Processes on a worker: their keepers, journal, files."""

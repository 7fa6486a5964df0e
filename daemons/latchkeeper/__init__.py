"""Keeps track of the ZooKeeper session a Spark Master holds its latch with, and removes it when that Master is dead."""

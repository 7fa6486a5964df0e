"""Master and worker daemons for Spark's standalone mode, highly available.

core          what happens: entities, transitions, scheduling, recovery. Pure
coordination  who leads, and what is durable: ZooKeeper, a directory, nothing, or a factory of your own
rpc           what masters and workers say to each other on port 7077
http          web UI, /json/, REST submissions, health, metrics
processes     executors and drivers as processes that outlive their worker
"""

__version__ = "0.1.0"

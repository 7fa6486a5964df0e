"""Leader election and durable store."""

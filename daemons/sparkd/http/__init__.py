"""Pages, REST submissions, health and metrics."""

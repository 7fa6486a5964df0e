"""What travels on port 7077."""

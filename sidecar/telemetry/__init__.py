"""What the sidecar says of itself: log lines and metrics."""

"""The loopback listener for operators: metrics, probes, status."""

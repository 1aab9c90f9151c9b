"""camunda-sidecar: plain HTTP in, one shared token, authorized traffic out."""

__version__ = "0.1.0"

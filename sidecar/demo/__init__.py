"""The embedded Camunda stand-in, for `camunda-sidecar demo` and for tests."""

"""grpcio is told to be silent before anybody imports it, as in the program."""

import sidecar.grpc  # noqa: F401

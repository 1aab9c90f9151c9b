"""Zeebe's gRPC: plaintext HTTP/2 from local programs, TLS to the gateway, the token attached to every call.

HTTP/2 and gRPC are grpcio's (an extra); messages pass through as bytes, whatever they mean.
"""

import os

# grpcio's C++ core writes lines of its own to standard error, past the log and its masking. It reads this variable when
# it is first imported, which is after this. Whoever looks for a fault in grpcio sets the variable.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

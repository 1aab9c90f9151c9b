"""The data plane: guard, routing, downstream and upstream connections, replay, tunnel."""

"""The shared token: pure inside (`lifecycle`, `budget`), a thin shell outside (`manager`)."""

"""The cases of this package: every operation and loss, at kinks too, and both presets."""

"""Convolutions: direct, by Winograd's transform, fused with ReLU and pooling, and their sparse backward pass."""

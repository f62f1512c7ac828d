"""What a whole training step moves and keeps (docs/reference-training.md), from the kernels of its forward pass."""

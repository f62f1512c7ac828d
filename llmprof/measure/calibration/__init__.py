"""Single kernels, timed on the local device: what the constants of its times are fitted to (docs/latency.md)."""

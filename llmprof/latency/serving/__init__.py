"""What a server does with passes: schedulers, the engine's own time, and what clients see (docs/latency.md)."""

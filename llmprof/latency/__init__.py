"""How long ops, passes and served requests take on a device, from compact constants (docs/latency.md). No torch."""

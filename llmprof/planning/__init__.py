"""Will it fit, on how many devices, with how much room, and how fast at best (docs/planning.md). No torch."""

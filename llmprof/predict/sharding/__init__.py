"""What each of many ranks holds and sends, by formulas alone (docs/reference-sharding.md)."""

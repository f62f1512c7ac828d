"""Reading what the world ships: configs and file headers, into specs. Torch-free; nothing is fetched, nothing run."""

CONFIG = "config.json"
"""What a release calls the file that describes its architecture."""

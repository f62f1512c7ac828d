"""What stops the reading of a release, and nothing else of an import."""


class Unsure(Exception):
    """What is packed cannot be told; the text says why."""

"""GGUF files as specs: the metadata of an architecture of llama.cpp becomes the config of a family that has a table.

Nothing is mapped twice: a table here says which key is which field of a ``config.json``, and what llama.cpp takes for
granted where a config would say it; the family's table reads the result.
"""

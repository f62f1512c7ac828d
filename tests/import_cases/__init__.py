"""Configs of every family that is imported, each with variations; `test_import_families.py` holds them against transformers."""

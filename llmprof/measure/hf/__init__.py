"""transformers as a witness: its own class of a config, built on meta and run there. Imports torch and transformers."""

"""One figure, several witnesses: what is predicted, held against all that can testify to it independently.

Witnesses are the twin on meta, transformers' own class of the config on meta, and the published figure. torch is
imported inside the functions that need it.
"""

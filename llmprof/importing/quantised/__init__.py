"""``quantization_config``: how the files of a release hold the matrices. One file per question.

`methods.py` reads what each method packs, `spared.py` which matrices it leaves alone, `names.py` what those are called
in files. Where one of them does not know for sure, the spec gets no `release`, and a remark says why: what is said of
the bytes in files is certain, or not said.
"""

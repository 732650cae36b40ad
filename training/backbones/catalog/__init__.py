"""The built-in catalogue names models that are known to the byte, each added by one word.

One name stands for one set of weights. Files of packages are read as data, after their sha256 was
checked: their code is neither imported nor run.
"""

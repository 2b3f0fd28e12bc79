"""The pool of labelling processes, in which a crash, a hang or a NaN costs one frame; the label journal and cache."""

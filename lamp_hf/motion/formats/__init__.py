"""Motion files: each format has a module that reads or writes it, which `lamp_hf.motion.files` finds by the suffix."""

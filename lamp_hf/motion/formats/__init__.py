"""Motion files: a module for each format reads or writes it; `lamp_hf.motion.files` finds it by the file's suffix."""

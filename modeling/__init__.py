"""Models, configurations and processors of lamp_hf; imported as `lamp_hf.modeling`."""

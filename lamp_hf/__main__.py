"""`python -m lamp_hf`: the same as the command `lamp-hf`."""

from lamp_hf.cli import main

if __name__ == "__main__":
    main()

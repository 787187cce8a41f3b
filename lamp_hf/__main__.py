"""`python -m lamp_hf`: the same as the command `lamp-hf`.

`accelerate launch -m lamp_hf train …` and `… evaluate …` start it in several processes.
"""

from lamp_hf.cli import main

if __name__ == "__main__":
    main()

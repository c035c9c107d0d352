"""What the demonstrations in `spaces/` share: their look, their limits, and models by their names on the Hub.

`look` needs gradio (`pip install "qwenlong-trl[spaces]"`); the others do not. Each is imported by itself.
"""

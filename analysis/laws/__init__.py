"""The forms of scaling laws: what a form is (`form`), laws of the loss (`loss`) and laws of the accuracy (`accuracy`).

A form is a function with named parameters and gradients. It knows nothing of points, fits or studies.
"""

"""The scaling laws: what a law is (`form`), laws of the loss (`loss`) and of the accuracy (`accuracy`).

A law is a function of named variables and parameters. This room imports no other room.
"""

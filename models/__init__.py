"""The model that ships with the project, `demo/`, and the recipe that makes it, `training/`.

Needs torch, transformers and tokenizers only, and must not import the product: the recipe also
runs from a bare checkout on a machine that has nothing else installed.
"""

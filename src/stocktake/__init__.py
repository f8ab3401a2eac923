"""Counts the items in a photo of a warehouse bin, and says where the warehouse's record is probably wrong."""

# Here and not in the metadata of an installation: a training container runs the source without installing it.
__version__ = "0.1.0"

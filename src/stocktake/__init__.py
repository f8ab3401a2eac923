"""Counts the items in a photo of a warehouse bin, and says where the warehouse's record is probably wrong."""

import os

# Here and not in the metadata of an installation: a training container runs the source without installing it.
__version__ = "0.1.0"

# onnxruntime 1.32 keeps an identifier of this machine in ~/.cache once it is imported; later it cannot be asked not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

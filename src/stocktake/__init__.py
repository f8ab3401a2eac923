"""Counts the items in a photo of a warehouse bin, and says where the warehouse's record is probably wrong."""

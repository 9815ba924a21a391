"""The metrics of action detection, in numpy: they work on arrays and files, without a model."""

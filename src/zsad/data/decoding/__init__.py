"""What a file stores, and how it becomes a picture or a mask; :mod:`zsad.data.images` is what other parts use."""

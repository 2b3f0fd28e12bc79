"""A frame, and its properties that need no model: bonds, fragments, neighbours, periodic images, identity, sanity."""

"""The search for candidates: planned MD, scores of the committee, and the selection of frames to label."""

"""What a file of weights holds, held against an architecture: each tensor placed, itemised, or unexplained."""

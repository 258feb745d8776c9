"""Pictures of a space in two dimensions: what sounds alike lies together."""

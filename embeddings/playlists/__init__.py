"""Playlists of ours in people's music servers: made of a recipe, updated in place."""

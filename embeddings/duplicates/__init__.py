"""Tracks of the library that hold the same recording: suggested, never touched."""

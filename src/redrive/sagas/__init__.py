"""Sagas: steps in several places, all of which take effect or are undone, through crashes."""

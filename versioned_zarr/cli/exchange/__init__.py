"""The commands that exchange data with files of other programs."""

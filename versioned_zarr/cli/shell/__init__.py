"""What the command line adds to click: completion, words of other tools, advice and examples."""

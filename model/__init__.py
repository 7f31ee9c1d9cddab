"""What a reply means: text in, labels, scores and a decision out. Never imports torch on the serving path."""

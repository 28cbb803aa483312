"""Reports of recordings: numbers computed once, as plain values, and one renderer for each output."""

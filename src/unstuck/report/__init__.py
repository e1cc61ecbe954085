"""Reports: the terminal, a page, JSON and the formats of other tools."""

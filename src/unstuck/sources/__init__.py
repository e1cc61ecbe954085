"""Sources: what fills a trace. The engine's own, for now."""

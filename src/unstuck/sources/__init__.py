"""Sources: what fills a trace, one folder or file for each kind of training."""

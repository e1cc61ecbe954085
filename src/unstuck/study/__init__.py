"""Studies: how likely is it to train? For now the statistics that trials share."""

"""How trials run: Tune's search over a study, its trials' drivers, and the warm slots whose workers train."""

"""The steps of the pipeline, one folder a step; modules at this level hold the facts that several steps share."""

"""What the gateway tells about its work: metrics and the record log. Both read `exchange.Record`, nothing else."""

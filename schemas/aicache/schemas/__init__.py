"""The contract: one Avro schema a record, typed records, the codec and the table of topics."""

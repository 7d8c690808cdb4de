"""The embedded deployment: a real Kafka and all services on this machine."""

"""The demo: a crowd of clients, every service, planted faults, and a verdict, on a real Kafka in about a minute."""

"""The mathematics: masking, sharing, noise, accounting and anonymisation.

Pure: no Kafka, no clock, no files, and entropy is an argument everywhere.
"""

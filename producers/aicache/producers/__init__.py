"""Client SDK: masked updates and anonymized usage events go out, insights come back."""

from aicache.producers.client import BlockingClient, Client
from aicache.producers.connection import KafkaSettings
from aicache.producers.core import Delivery
from aicache.producers.insights import Insight, Insights
from aicache.producers.kafka import Acknowledged, Hub
from aicache.producers.ledger import Limit
from aicache.producers.session import Contribution, Limits, Pins
from aicache.producers.usage import Rules, Situation

__all__ = [
    "Acknowledged",
    "BlockingClient",
    "Client",
    "Contribution",
    "Delivery",
    "Hub",
    "Insight",
    "Insights",
    "KafkaSettings",
    "Limit",
    "Limits",
    "Pins",
    "Rules",
    "Situation",
]

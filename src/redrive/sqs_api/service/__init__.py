"""What SQS's operations do, on one database: the embedded broker's own, so that every door leads to the same queues."""

from redrive.sqs_api.service.service import EndpointService, open_service

__all__ = ["EndpointService", "open_service"]

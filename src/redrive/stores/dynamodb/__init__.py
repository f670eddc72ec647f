"""The store on Amazon DynamoDB. Importing this imports no AWS client; making a `DynamoStore` does."""

from redrive.stores.dynamodb.store import DynamoStore

__all__ = ["DynamoStore"]

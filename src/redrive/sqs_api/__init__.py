"""Amazon SQS's own API, answered by this machine.

    socket ─► server ─► door ─► signature, hosts ─► awsjson | awsquery ─► one call of a service ─► and back

The contract is the model of SQS that botocore ships; `service` is what stands behind the calls.
"""

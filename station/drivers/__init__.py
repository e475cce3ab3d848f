"""The equipment behind the channels."""

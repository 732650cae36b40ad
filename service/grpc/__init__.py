"""gRPC: a thin translation to the pipeline and the registry, and back. No logic lives here."""

from service.grpc.server import GrpcServer, check_pair

__all__ = ["GrpcServer", "check_pair"]

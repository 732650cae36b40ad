"""Extensions of Triton's that are not spoken, and what there is in their place.

Clients look for some of them by themselves, and show the sentence to their users.
"""

from collections.abc import Mapping

_SHARED_MEMORY = "this server has no shared memory: send tensors in the request"
_TRACE = "there are no trace settings: requests are traced by OpenTelemetry (see OPERATIONS.md)"
_LOG = "the log is not set by clients: HEADSTOCK_LOG_LEVEL sets it at the start"
_LOADING = (
    "models are loaded when they are asked; to let another version answer, set the release of its "
    "adapter"
)
_STREAM = "there is no ModelStreamInfer: every request has one answer; call ModelInfer"
_METHODS: Mapping[str, str] = {
    "CudaSharedMemoryRegister": _SHARED_MEMORY,
    "CudaSharedMemoryStatus": _SHARED_MEMORY,
    "CudaSharedMemoryUnregister": _SHARED_MEMORY,
    "LogSettings": _LOG,
    "ModelStreamInfer": _STREAM,
    "RepositoryModelLoad": _LOADING,
    "RepositoryModelUnload": _LOADING,
    "SystemSharedMemoryRegister": _SHARED_MEMORY,
    "SystemSharedMemoryStatus": _SHARED_MEMORY,
    "SystemSharedMemoryUnregister": _SHARED_MEMORY,
    "TraceSetting": _TRACE,
}
_PATHS: Mapping[str, str] = {
    "cudasharedmemory": _SHARED_MEMORY,
    "logging": _LOG,
    "systemsharedmemory": _SHARED_MEMORY,
    "trace": _TRACE,
}


def reason_for_method(name: str) -> str | None:
    """Why a method of gRPC is not there; None for one that the protocol does not have either."""
    return _METHODS.get(name)


def reason_for_path(path: str) -> str | None:
    """The same of a path that no route has."""
    match path.split("/")[1:]:
        case ["v2", "models", _, "trace", "setting"]:
            return _TRACE
        case ["v2", "repository", "models", _, "load" | "unload"]:
            return _LOADING
        case ["v2", first, *_]:
            return _PATHS.get(first)
    return None

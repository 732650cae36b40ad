"""The Open Inference Protocol (KServe v2) less its transports: tensors, models, inference."""

"""Surgery on ONNX graphs: features, int8, LoRA, weights that several graphs share.

Works on the ONNX file, never on torch code, so that every source is treated alike. Needs the
`onnx` package, which the serving installation does not have: nothing that serves imports this.
"""

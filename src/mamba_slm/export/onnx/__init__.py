"""The model as an ONNX graph: built by hand from one description, and checked in ONNX Runtime."""

"""Networks that are given as a graph of operators, without the code that made them: exported, ONNX and scripted ones."""

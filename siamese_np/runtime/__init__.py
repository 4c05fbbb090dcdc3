"""How kernels are compiled and cached, how threads share them, where their memory comes from."""

from siamese_np.runtime.jit import inlined

part = inlined
array_part = inlined(arrays=True)
sum_part = inlined(reassociate=True)

"""A device that has no float64, as Apple's GPU."""

import torch


class WithoutFloat64(torch.Tensor):
    """Stands for a tensor on Apple's GPU, which has no float64 and gives numpy nothing before `.cpu()`."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        assert function is not torch.Tensor.numpy, "can't convert mps:0 device type tensor to numpy"
        result = super().__torch_function__(function, types, args, kwargs)
        assert getattr(result, "dtype", None) != torch.float64, "the MPS framework doesn't support float64"
        return result

"""What only a GPU can show: each of the doctor's checks on it; skipped without one."""

import pytest
import torch

from focalrepro.bench import doctor


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", doctor.CHECKS)
def test_the_gpu_passes(name, data_root):
    assert doctor.check_on(doctor.CHECKS[name], "cuda")

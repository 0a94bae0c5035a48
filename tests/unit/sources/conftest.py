import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from drop_folder import Drop


@pytest.fixture
def drop(tmp_path):
    return Drop(tmp_path)

"""What every figure has to be."""

import matplotlib
import matplotlib.pyplot as plt


def draw(figure, tmp_path):
    """Every font is legible, the file is written and pyplot keeps no reference."""
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    sizes = [t.get_fontsize() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]
    assert min(sizes) >= 9
    assert not plt.get_fignums()

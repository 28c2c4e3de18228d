"""The axes a display draws on."""


def axes(ax):
    """``ax``, or those of a new figure."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("displays need matplotlib: pip install 'skinfluence[plot]'") from error
    return plt.subplots()[1]

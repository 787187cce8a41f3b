"""CMU Graphics Lab motion capture database: takes at their true speed, cut into segments with captions.

The database (mocap.cs.cmu.edu) may be used in research and in products. It may not be resold directly, even in
converted form. It asks for this acknowledgment: "The data used in this project was obtained from mocap.cs.cmu.edu. The
database was created with funding from NSF EIA-0196217."
"""

from lamp_hf.data.cmu.loader import load_cmu_mocap

__all__ = ["load_cmu_mocap"]
